"""A raw row's fields, checked one by one.

Each function returns the value as its type, or says which field is wrong and how.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping
from typing import Final

from .errors import BadRow
from .strict_json import DECODER

_SHOWN_CHARACTERS: Final = 60
_LEFT_OUT: Final = ("_", "-")


def to_text(value: object, *, field: str) -> str:
    """Return a text, which may be empty.

    Args:
        value: what the row holds there.
        field: its name in messages, such as 'messages[1].content'.

    Raises:
        BadRow: it is something else, or holds half a character that no tokenizer takes.
    """
    if isinstance(value, str):
        # Encoding costs time; ASCII needs none of it.
        if not value.isascii() and _has_lone_surrogate(value):
            raise BadRow("not text", f"{field!r} holds half of a surrogate pair; expected valid Unicode")
        return value
    if value is None:
        raise BadRow("missing field", f"{field!r} is missing or null; expected text")
    if isinstance(value, list):
        raise BadRow("not text", f"{field!r} is a list; expected text (lists of parts go into a message's content)")
    raise BadRow("not text", f"{field!r} is {shorten(value)}; expected text")


def to_answer(value: object, *, field: str) -> str:
    """Return a text that is more than white space. Raises as `to_text` does."""
    text = to_text(value, field=field)
    if not text.strip():
        raise BadRow("empty answer", f"{field!r} is {shorten(text)}; an answer needs text")
    return text


def to_word(value: object, *, field: str) -> str:
    """Return a text, which may be that of a number: sets name parts and solutions so. Raises as `to_text` does."""
    return to_text(write_number(value), field=field)


def to_solution(value: object, *, field: str) -> str:
    """Return a text, or that of a number; a list or an object becomes JSON. Raises as `to_text` does."""
    if isinstance(value, list | Mapping):
        try:
            value = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadRow("not text", f"{field!r} is {shorten(value)}, which is no JSON: {error}") from error
    return to_word(value, field=field)


def to_list(value: object, *, field: str, of: str) -> list[object]:
    """Return a list that is not empty; `of` says in messages what it should hold.

    A text that holds a JSON list is taken for it: CSV has no other way to say one.
    """
    if value is None:
        raise BadRow("missing field", f"{field!r} is missing or null; expected a list of {of}")
    if isinstance(value, str):
        value = from_json(value, opening="[")
    if not isinstance(value, list):
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected a list of {of}")
    if not value:
        raise BadRow("missing field", f"{field!r} is an empty list; expected a list of {of}")
    return value


def to_object(value: object, *, field: str) -> Mapping[str, object]:
    """Return a JSON object; a text that holds one is taken for it."""
    if isinstance(value, str):
        value = from_json(value, opening="{")
    if not isinstance(value, Mapping):
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected an object")
    return value


def from_json(text: str, *, opening: str) -> object:
    """Return what a text says in JSON; the text itself where it does not begin with `opening`, or is no JSON."""
    stripped = text.strip()
    if not stripped.startswith(opening):
        return text
    try:
        return DECODER.decode(stripped)
    except (ValueError, RecursionError):
        return text


def get(item: Mapping[str, object], key: str, *, field: str) -> object:
    """Return an object's value under this key, which it must have."""
    if key not in item:
        raise BadRow("missing field", f"{field!r} lacks {key!r}; it has {quote(item)}")
    return item[key]


def rename(raw: Mapping[str, object], columns: Mapping[str, str], keep_null: Container[str] = ()) -> dict[str, object]:
    """Return a row with new names for some of its columns, and without those that are null.

    Args:
        raw: the row.
        columns: its names to new ones; '_' and '-' leave a column out.
        keep_null: new names of columns that stay though they are null.

    Raises:
        BadRow: two columns have one name afterwards.
    """
    renamed: dict[str, object] = {}
    for name, value in raw.items():
        target = columns.get(name, name)
        if target in _LEFT_OUT or (value is None and target not in keep_null):
            continue
        if target in renamed:
            raise BadRow("ambiguous columns", f"two columns are called {target!r} after renaming; rename one only")
        renamed[target] = value
    return renamed


def shorten(value: object) -> str:
    """Show a value in a message, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


def quote(names: Iterable[str]) -> str:
    """Show some names in a message: 'a', 'b'."""
    return ", ".join(repr(name) for name in names) or "nothing"


def write_number(value: object) -> object:
    """Return the text of a number; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return repr(value) if isinstance(value, float) and math.isfinite(value) else value


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
