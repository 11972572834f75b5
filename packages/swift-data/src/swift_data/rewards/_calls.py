"""What a text calls, in whatever form: ReACT's lines, JSON of calls, or the dialect of a model."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from swift_templates.dialect import DIALECTS, Dialect, load_dialect

from ..strict_json import DECODER
from ._react import Call, find_call, read_object

# Some dialects take whatever stands between their marks for a name, JSON of another one too.
_NAME = re.compile(r"[\w.:/-]+")
# Their lines are looked for first, and more leniently.
_LINES = ("react_en", "react_zh", "toolbench")


def find_calls(text: str) -> list[Call]:
    """Return the calls of a text: of a trace in ReACT's lines the last one, of an answer in another form all."""
    last = find_call(text)
    if last is not None:
        return [last]
    return _read_json(text) or _read_dialects(text)


def _read_dialects(text: str) -> list[Call]:
    """Return the calls as that dialect reads them which reads most without fault."""
    found: list[Call] = []
    is_whole = False
    for dialect in _dialects():
        answer = dialect.parse(text)
        if not answer.calls or not all(_NAME.fullmatch(call.name) for call in answer.calls):
            continue
        quality = (answer.problem is None, len(answer.calls))
        if quality > (is_whole, len(found)):
            is_whole = answer.problem is None
            found = [Call(call.name, call.arguments) for call in answer.calls]
    return found


@functools.cache
def _dialects() -> tuple[Dialect, ...]:
    return tuple(load_dialect(name) for name in DIALECTS.names() if name not in _LINES)


def _read_json(text: str) -> list[Call]:
    """Return the calls of JSON as data sets have it: {"name", "arguments"}, OpenAI's form of it, or a list of these."""
    try:
        value = DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    calls = [_to_call(each) for each in (value if isinstance(value, list) else [value])]
    found = [call for call in calls if call is not None]
    return found if len(found) == len(calls) else []


def _to_call(value: object) -> Call | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        # OpenAI has them as JSON inside of a text.
        arguments = read_object(arguments.strip() or "{}")
    if not isinstance(arguments, Mapping | str):
        return None if arguments is not None else Call(value["name"], {})
    return Call(value["name"], arguments)
