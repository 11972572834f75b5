"""JSON: one array of objects in a file, in UTF-8.

The array is taken apart element by element, so that each row knows its line; a syntax error ends the file, since nobody
can tell where the next row begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadRow, UnreadableDataset
from ..fields import shorten
from ..source import Origin, RawRow, Source
from ..strict_json import DECODER

_SPACE = re.compile(r"[ \t\r\n]*")


class JsonArray(Source):
    """Reads .json files."""

    suffixes = (".json",)
    example = (
        '[{"query": "What is 2 + 2?", "response": "4"},\n'
        ' {"query": "Größe?", "response": "日本\u2028語", "solution": "語"}]\n'
    ).encode()

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield the elements of the array."""
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UnreadableDataset(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
        position = _skip_space(text, 0)
        if position == len(text):
            return
        if text[position] != "[":
            raise UnreadableDataset(
                f"{path}: expected a JSON array of objects; if each line is a row of its own, name the file .jsonl"
            )
        for value, line in _elements(text, position, path=path):
            origin = Origin(str(path), line)
            if isinstance(value, dict):
                yield RawRow(value, origin)
            else:
                yield BadRow("not an object", f"expected a JSON object, found {shorten(value)}", origin)


def _elements(text: str, bracket: int, *, path: Path) -> Iterator[tuple[object, int]]:
    """Yield each element of the array that begins at `bracket`, and the line on which it starts."""
    line, counted = 1, 0
    position = _skip_space(text, bracket + 1)
    if text.startswith("]", position):
        _check_end(text, position, path=path)
        return
    while True:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UnreadableDataset(f"{path}:{line}: the row that begins here is not JSON: {error}") from error
        yield value, line
        end = _skip_space(text, end)
        if text.startswith("]", end):
            _check_end(text, end, path=path)
            return
        if not text.startswith(",", end):
            line += text.count("\n", counted, end)
            raise UnreadableDataset(f"{path}:{line}: not JSON: expected ',' or ']' after a row")
        position = _skip_space(text, end + 1)


def _check_end(text: str, bracket: int, *, path: Path) -> None:
    if _skip_space(text, bracket + 1) != len(text):
        line = 1 + text.count("\n", 0, bracket)
        raise UnreadableDataset(f"{path}:{line}: something follows the array of rows; expected the file's end")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None, "the pattern matches the empty text"
    return match.end()
