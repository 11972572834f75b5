"""OpenAI's list of tools, checked; and calls checked against it.

With the jsonschema package installed, both the schemas and the arguments are checked in full; without it, what every
schema has: types, required names, the values of an enum.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ..errors import InvalidTools as InvalidTools
from ..messages import JSON, ToolCall
from ..registry import nearest

Tool: TypeAlias = dict[str, JSON]
"""One of OpenAI's tools: {"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}."""


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def check_tools(tools: Sequence[Tool]) -> None:
    """Refuse what is not a list of OpenAI's tools.

    Args:
        tools: objects of the form {"type": "function", "function": {"name", "description", "parameters"}}; description
            and parameters may be left out.

    Raises:
        InvalidTools: an object, a name or a schema is not what it should be, or two tools have one name. The message
            names the position, counted from 1.
    """
    names: set[str] = set()
    for position, tool in enumerate(tools, start=1):
        where = f"tool {position}"
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            raise InvalidTools(
                f"{where} is {tool!r:.120}; expected "
                '{"type": "function", "function": {"name": ..., "parameters": ...}}'
            )
        name = _function(tool).get("name")
        if not isinstance(name, str) or not name or any(each.isspace() for each in name):
            raise InvalidTools(f"{where} has name {name!r}; expected a text without white space")
        if name in names:
            raise InvalidTools(f"{where} has the name {name!r}, which another has; give each its own")
        names.add(name)
        _check_function(_function(tool), f"{where} ({name!r})")


def check_call(call: ToolCall, tools: Sequence[Tool]) -> None:
    """Refuse a call of an unknown function, or with arguments that its schema does not allow.

    Raises:
        InvalidTools: the message names the function, the argument and what its schema wants.
    """
    functions = {str(each["name"]): each for each in functions_of(tools)}
    if call.name not in functions:
        raise InvalidTools(
            f"a call wants function {call.name!r}, which is none of the tools; {nearest(call.name, functions)}"
        )
    schema = functions[call.name].get("parameters") or {}
    arguments: JSON = call.arguments
    for problem in _problems(arguments, schema):
        raise InvalidTools(f"a call of {call.name!r}: {problem}")


def functions_of(tools: Sequence[Tool]) -> list[Tool]:
    """Return the functions inside of OpenAI's tools, checked. Raises as `check_tools` does."""
    check_tools(tools)
    return [_function(tool) for tool in tools]


def schema_of(tools: Sequence[Tool], name: str, parameter: str) -> Tool | None:
    """Return the schema of one parameter, None where the tools say nothing of it."""
    for tool in tools:
        if _function(tool).get("name") == name:
            parameters = _function(tool).get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, dict) else None
            found = properties.get(parameter) if isinstance(properties, dict) else None
            return found if isinstance(found, dict) else None
    return None


def _function(tool: Tool) -> Tool:
    function = tool["function"]
    assert isinstance(function, dict)
    return function


def _check_function(function: Tool, where: str) -> None:
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidTools(f"{where} has description {description!r:.80}; expected text")
    schema = function.get("parameters")
    if schema is None:
        return
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise InvalidTools(f"{where} has parameters {schema!r:.120}; expected a JSON Schema of type 'object'")
    try:
        json.dumps(function, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidTools(f"{where} holds what JSON cannot say: {error}") from error
    if importlib.util.find_spec("jsonschema") is not None:
        problem = _problem_of(json.dumps(schema))
        if problem is not None:
            raise InvalidTools(f"{where} has parameters that {problem}")
        return
    for path, each in _schemas(schema, "parameters"):
        if not isinstance(each, dict):
            raise InvalidTools(f"{where}: {path} is {each!r:.80}; expected a JSON Schema, such as {{'type': 'string'}}")
        kinds = each.get("type", [])
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if not isinstance(kind, str) or kind not in _TYPES:
                raise InvalidTools(f"{where}: {path} has type {kind!r}; expected one of {', '.join(_TYPES)}")
        for key, kind_of in (("required", list), ("enum", list), ("properties", dict)):
            if key in each and not isinstance(each[key], kind_of):
                raise InvalidTools(f"{where}: {path} has {key} {each[key]!r:.80}; expected a {kind_of.__name__}")


def _schemas(schema: JSON, path: str) -> Iterator[tuple[str, JSON]]:
    yield path, schema
    if isinstance(schema, dict):
        properties = schema.get("properties")
        for name, each in (properties if isinstance(properties, dict) else {}).items():
            yield from _schemas(each, f"{path}.{name}")
        items = schema.get("items")
        if items is not None and not isinstance(items, bool):
            yield from _schemas(items, f"{path}[]")


# Rows have the same tools again and again, and to check a schema takes milliseconds.
@functools.lru_cache(maxsize=4096)
def _problem_of(text: str) -> str | None:
    """Say what is wrong with the JSON text of a schema; None if nothing is."""
    import jsonschema

    try:
        schema = json.loads(text)
        jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except RecursionError:
        return "are nested too deep"
    except jsonschema.SchemaError as error:
        path = ".".join(map(str, error.absolute_path)) or "it"
        return f"are no JSON Schema: {path}: {error.message}"
    return None


def _problems(value: JSON, schema: JSON) -> Iterator[str]:
    if not isinstance(schema, dict) or importlib.util.find_spec("jsonschema") is None:
        yield from _structural(value, schema, "arguments")
        return
    import jsonschema
    import referencing

    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    # A registry of nothing: a $ref to an address is never fetched.
    checked = validator(schema, registry=referencing.Registry())
    try:
        for error in checked.iter_errors(value):
            path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in error.absolute_path)
            yield f"arguments{path}: {error.message:.300}"
    except referencing.exceptions.Unresolvable as error:
        yield f"the schema refers to {error.ref!r}, which it does not hold"
    except (re.error, RecursionError, jsonschema.exceptions.UnknownType) as error:
        yield f"the schema cannot be checked against: {error!r:.200}"


def _structural(value: JSON, schema: JSON, path: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type", list(_TYPES))
    wanted = [str(kind) for kind in (kinds if isinstance(kinds, list) else [kinds])]
    if not any(_is(value, kind) for kind in wanted):
        yield f"{path} is {value!r:.80}; expected {' or '.join(wanted)}"
        return
    enum = schema.get("enum")
    if isinstance(enum, list) and value not in enum:
        yield f"{path} is {value!r:.80}; expected one of {enum!r:.200}"
    if isinstance(value, dict):
        properties, required = schema.get("properties"), schema.get("required")
        properties = properties if isinstance(properties, dict) else {}
        for name in required if isinstance(required, list) else []:
            if name not in value:
                yield f"{path} lacks {name!r}, which is required"
        for name, each in value.items():
            if name in properties:
                yield from _structural(each, properties[name], f"{path}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{path} has {name!r}; {nearest(name, properties)}"
    if isinstance(value, list):
        for position, each in enumerate(value):
            yield from _structural(each, schema.get("items"), f"{path}[{position}]")


def _is(value: JSON, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))
