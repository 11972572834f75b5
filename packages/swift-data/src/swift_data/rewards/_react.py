"""ReACT's lines, as rewards read them: strictly for the format, leniently for what is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..strict_json import DECODER

_ACTION = re.compile(r"^[ \t]*Action:(.*)$", re.MULTILINE)
_INPUT = re.compile(r"^[ \t]*Action Input:", re.MULTILINE)
_AFTER = re.compile(r"^[ \t]*Observation:", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """An action and what it is given: arguments where they are a JSON object, else the text."""

    action: str
    arguments: Mapping[str, object] | str


def find_call(text: str) -> Call | None:
    """Return the last call of a text; None where it makes none."""
    actions = list(_ACTION.finditer(text))
    if not actions:
        return None
    rest = text[actions[-1].end() :]
    given = _INPUT.search(rest)
    arguments = _AFTER.split(rest[given.end() :], maxsplit=1)[0].strip() if given else ""
    return Call(actions[-1][1].strip(), read_object(arguments or "{}"))


def read_object(text: str) -> Mapping[str, object] | str:
    """Return a text's JSON object, or the text where it is something else."""
    try:
        value = DECODER.decode(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
