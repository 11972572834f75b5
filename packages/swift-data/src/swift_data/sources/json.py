"""JSON: one array of objects in a file, in UTF-8; or an object a line, which many name so too.

The array is taken apart element by element, so that each row knows its line; a syntax error ends the file, since nobody
can tell where the next row begins.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from ..errors import BadRow, UnreadableDataset
from ..fields import shorten
from ..json_rows import parse_object
from ..source import Mark, Origin, RawRow, Scanned, Source
from ..strict_json import SCANNER
from ..text_source import Stretch, TextSource, split_lines

# How much of a file shows which of the two it is.
_HEAD_BYTES: Final = 1 << 12
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonArray(TextSource):
    """Reads .json files."""

    suffixes = (".json",)
    example = (
        '[{"query": "What is 2 + 2?", "response": "4"},\n'
        ' {"query": "Größe?", "response": "日本\u2028語", "solution": "語"}]\n'
    ).encode()

    def split(self, file: IO[bytes], start: Mark, *, path: Path) -> Iterator[Stretch]:
        """Yield the elements of the array, for which the rest of the file is held in memory; or the lines."""
        if _has_lines(file, path=path):
            yield from split_lines(file, start)
            return
        file.seek(start.offset)
        content = file.read()
        offset = start.offset
        if offset == 0 and content.startswith(codecs.BOM_UTF8):
            content, offset = content.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            place = offset + error.start
            raise UnreadableDataset(f"{path}: byte {place} is not UTF-8; save the file as UTF-8") from error
        position, ends = (0, False) if start.offset else _enter(text, path=path)
        if not ends:
            yield from _elements(text, position, Mark(offset, start.line), path=path)

    def fetch(self, path: Path, marks: Sequence[Mark]) -> Iterator[Scanned]:
        """Yield the rows at these marks, from one reading of the file."""
        return Source.fetch(self, path, marks)

    def parse(self, content: bytes, origin: Origin, header: Sequence[str]) -> RawRow | BadRow:
        """Read an element or a line."""
        return parse_object(content, origin)


def _has_lines(file: IO[bytes], *, path: Path) -> bool:
    """Say whether a file, which is at its start, holds an object a line."""
    start = file.read(_HEAD_BYTES)
    head = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if not head.startswith(b"{"):
        return False
    first, line_end, _ = head.partition(b"\n")
    # A first line that is longer is not one of many of the same object.
    is_whole = line_end or len(start) < _HEAD_BYTES
    if is_whole and isinstance(parse_object(first, Origin(str(path), 1)), BadRow):
        raise UnreadableDataset(
            f"{path}: begins with an object of several lines; expected an array of objects, or an object a line"
        )
    return True


def _enter(text: str, *, path: Path) -> tuple[int, bool]:
    """Return where the first element begins, and whether there is none."""
    position = _skip_space(text, 0)
    if position == len(text):
        return position, True
    if text[position] != "[":
        raise UnreadableDataset(
            f"{path}: expected a JSON array of objects, or a JSON object a line; found {shorten(text[position:])}"
        )
    position = _skip_space(text, position + 1)
    if text.startswith("]", position):
        _check_end(text, position, line=1 + text.count("\n", 0, position), path=path)
        return position, True
    return position, False


def _elements(text: str, position: int, start: Mark, *, path: Path) -> Iterator[Stretch]:
    """Yield each element of an array whose rest begins at `position`; `start` is the mark of the text."""
    line, counted, offset, is_ascii = start.line, 0, start.offset, text.isascii()
    while True:
        line += text.count("\n", counted, position)
        offset += position - counted if is_ascii else len(text[counted:position].encode())
        try:
            _, end = SCANNER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UnreadableDataset(f"{path}:{line}: the row that begins here is not JSON: {error}") from error
        yield Stretch(offset, line, text[position:end].encode())
        counted = position
        end = _skip_space(text, end)
        if text.startswith("]", end):
            _check_end(text, end, line=line + text.count("\n", counted, end), path=path)
            return
        if not text.startswith(",", end):
            line += text.count("\n", counted, end)
            raise UnreadableDataset(f"{path}:{line}: not JSON: expected ',' or ']' after a row")
        position = _skip_space(text, end + 1)


def _check_end(text: str, bracket: int, *, line: int, path: Path) -> None:
    if _skip_space(text, bracket + 1) != len(text):
        raise UnreadableDataset(f"{path}:{line}: something follows the array of rows; expected the file's end")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None, "the pattern matches the empty text"
    return match.end()
