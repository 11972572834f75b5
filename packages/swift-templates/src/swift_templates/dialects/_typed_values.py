"""Arguments that are written bare, as '3' for 3 and for '3': what they mean is for the schema to say."""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ..messages import JSON
from ._events import Broken
from ._reader import load_json
from ._tools import Tool, schema_of


def value_of(text: str, tools: Sequence[Tool], name: str, parameter: str) -> JSON:
    """Return what a bare text means: itself where the schema wants text, else the JSON that it is, else itself."""
    if _is_text(schema_of(tools, name, parameter)):
        return text
    named: dict[str, JSON] = {"True": True, "False": False, "None": None}
    if text in named:
        return named[text]
    try:
        return load_json(text)
    except Broken:
        return text


def bare_text(value: JSON, markers: Sequence[str]) -> str:
    """Write an argument: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value, markers)


def _is_text(schema: Tool | None) -> bool:
    if schema is None:
        return False
    if "type" in schema:
        return schema["type"] == "string"
    enum = schema.get("enum")
    return isinstance(enum, list) and bool(enum) and all(isinstance(each, str) for each in enum)
