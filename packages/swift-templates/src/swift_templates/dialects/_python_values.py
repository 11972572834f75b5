"""Python's literals, as far as JSON can say the same; read without Python's own parser, which is no safe place."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import json_text
from ..messages import JSON
from ._events import Broken, Steps
from ._reader import Reader, load_json

_DEEPEST = 100
_WORDS: dict[str, JSON] = {
    "True": True, "False": False, "None": None, "true": True, "false": False, "null": None,
}  # fmt: skip
_WORD_END = re.compile(r"[\s,\])}:]")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(\n)|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_SAME = "\\'\""


def python_text(value: JSON, markers: Sequence[str] = ()) -> str:
    """Write a value as Python does, with double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json_text(key, markers)}: {python_text(value[key], markers)}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(python_text(each, markers) for each in value) + "]"
    return str(value) if isinstance(value, bool) or value is None else json_text(value, markers)


def read_python(reader: Reader, depth: int = 0) -> Steps[JSON]:
    """Step over one literal; return what it means."""
    if depth > _DEEPEST:
        raise Broken(f"a call holds more than {_DEEPEST} brackets inside each other")
    yield from reader.skip_space()
    if (yield from reader.begins_with("[")):
        return (yield from _list(reader, "]", depth))
    if (yield from reader.begins_with("(")):
        return (yield from _list(reader, ")", depth))
    if (yield from reader.begins_with("{")):
        return (yield from _dict(reader, depth))
    for quote in ("'", '"'):
        if (yield from reader.begins_with(quote)):
            return (yield from _string(reader, quote))
    return (yield from _word(reader))


def _list(reader: Reader, closing: str, depth: int) -> Steps[JSON]:
    values: list[JSON] = []
    while True:
        yield from reader.skip_space()
        if (yield from reader.begins_with(closing)):
            return values
        values.append((yield from read_python(reader, depth + 1)))
        yield from reader.skip_space()
        if (yield from reader.expect(closing, ",")) == closing:
            return values


def _dict(reader: Reader, depth: int) -> Steps[JSON]:
    values: dict[str, JSON] = {}
    while True:
        yield from reader.skip_space()
        if (yield from reader.begins_with("}")):
            return values
        key = yield from read_python(reader, depth + 1)
        if not isinstance(key, str):
            raise Broken(f"a call has {key!r:.80} as a key; expected text")
        yield from reader.skip_space()
        yield from reader.expect(":")
        values[key] = yield from read_python(reader, depth + 1)
        yield from reader.skip_space()
        if (yield from reader.expect("}", ",")) == "}":
            return values


def _string(reader: Reader, quote: str) -> Steps[str]:
    parts = []
    while True:
        text, mark = yield from reader.until("\\", quote)
        parts.append(text)
        if mark == quote:
            break
        while reader.at == len(reader.text):
            if reader.ended:
                raise Broken("the answer ends inside a call; expected the rest of a text")
            yield None
        parts.append("\\" + reader.text[reader.at])
        reader.at += 1
    text = "".join(parts)
    if "\n" in text.replace("\\\n", ""):
        raise Broken("a text inside a call goes over several lines; expected \\n")
    text = _ESCAPE.sub(_unescape, text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Broken("a text inside a call holds half of a surrogate pair") from error
    return text


def _unescape(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code or found[4]:
        number = int(code, 16) if code else int(found[4], 8)
        if number > 0x10FFFF:
            raise Broken(f"a text inside a call holds {found[0]!r}, which is no character")
        return chr(number)
    if found[5]:
        return ""
    # Python keeps the backslash of an escape that it does not know.
    return _ESCAPED.get(found[6], found[6] if found[6] in _SAME else found[0])


def _word(reader: Reader) -> Steps[JSON]:
    begun = position = reader.at
    while (found := _WORD_END.search(reader.text, position)) is None and not reader.ended:
        position = len(reader.text)
        yield None
    reader.at = found.start() if found else len(reader.text)
    word = reader.text[begun : reader.at]
    if not word:
        reader.stop("expected a value")
    return _WORDS[word] if word in _WORDS else load_json(word)
