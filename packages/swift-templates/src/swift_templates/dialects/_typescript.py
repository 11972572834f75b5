"""JSON Schemas as the types of TypeScript, which harmony's prompts tell functions in."""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ..messages import JSON
from ._tools import Tool, functions_of

_NAMES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def namespace(name: str, tools: Sequence[Tool]) -> str:
    """Write tools as a namespace of function types."""
    written = "".join(f"{_function(each)}\n\n" for each in functions_of(tools))
    return f"## {name}\n\nnamespace {name} {{\n\n{written}}} // namespace {name}"


def _function(function: Tool) -> str:
    schema = function.get("parameters")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    lines = _comment(function.get("description"))
    if not isinstance(schema, dict) or not properties:
        return "\n".join([*lines, f"type {function['name']} = () => any;"])
    return "\n".join([*lines, f"type {function['name']} = (_: {_object(schema)}) => any;"])


def _object(schema: Tool) -> str:
    properties, required = schema.get("properties"), schema.get("required")
    required = required if isinstance(required, list) else []
    lines = ["{"]
    for name, each in (properties if isinstance(properties, dict) else {}).items():
        fields = each if isinstance(each, dict) else {}
        lines += _comment(fields.get("description"))
        default = f" // default: {_plain(fields['default'])}" if "default" in fields else ""
        lines.append(f"{name}{'' if name in required else '?'}: {_type(fields)},{default}")
    return "\n".join([*lines, "}"])


def _type(schema: JSON) -> str:
    if not isinstance(schema, dict):
        return "any"
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list):
            return " | ".join(_type(each) for each in options)
    enum = schema.get("enum")
    if isinstance(enum, list) and enum:
        return " | ".join(json_text(each) for each in enum)
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_type({**schema, "type": each}) for each in kind)
    if kind == "array":
        inner = _type(schema.get("items"))
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if kind == "object":
        return _object(schema) if schema.get("properties") else "object"
    return _NAMES.get(str(kind), "any")


def _comment(description: JSON) -> list[str]:
    return [f"// {line}" for line in description.splitlines()] if isinstance(description, str) else []


def _plain(value: JSON) -> str:
    return value if isinstance(value, str) else json_text(value)
