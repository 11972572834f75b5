"""CSV: a line of column names, then a row a line, in UTF-8; quoted cells may hold commas and line ends.

An empty cell is null: a column that this row does not have. A row with more or fewer cells than there are names is bad.
A first column without a name is the row numbers that pandas writes, and is left out.
"""

from __future__ import annotations

import codecs
import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from ..compression import data_suffix, reading
from ..errors import BadRow, UnreadableDataset
from ..fields import quote, shorten
from ..source import START, Mark, Origin, RawRow
from ..text_source import Stretch, TextSource

logger = logging.getLogger(__name__)

_TAB: Final = ".tsv"

# Python refuses cells above 128 KiB, which long texts have. The limit is one for the whole process.
csv.field_size_limit(2**31 - 1)


class CommaSeparated(TextSource):
    """Reads .csv files, and .tsv files, where tabs stand for commas."""

    suffixes = (".csv", _TAB)
    reads_any_text = True
    example = ('query,response,solution\r\nWhat is 2 + 2?,4,\r\n\r\nGröße?,"日本\u2028語",語\r\n').encode()

    def read_header(self, path: Path) -> Sequence[str]:
        """Return the delimiter, and then the names of the columns."""
        delimiter = _delimiter(path)
        with reading(path) as file:
            first = next(_records(file, START, delimiter, path=path), None)
        if first is None:
            return (delimiter,)
        try:
            names = [name.strip() for name in _cells(first.content, delimiter)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise UnreadableDataset(f"{path}:{first.line}: the line of column names cannot be read: {error}") from error
        if len(names) > 1 and not names[0]:
            logger.info("%s: the first column has no name and is left out; pandas writes row numbers so", path)
        if not all(names[1:] if len(names) > 1 else names):
            raise UnreadableDataset(f"{path}:{first.line}: a column has no name; found {quote(names)}")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UnreadableDataset(f"{path}:{first.line}: two columns are called {quote(twice)}; rename one")
        if any("\0" in name for name in names):
            raise UnreadableDataset(f"{path}:{first.line}: a column's name holds a NUL character; expected text")
        return (delimiter, *names)

    def split(self, file: IO[bytes], start: Mark, *, path: Path) -> Iterator[Stretch]:
        """Yield the records below the names."""
        records = _records(file, start, _delimiter(path), path=path)
        if start.offset == 0:
            next(records, None)
        return records

    def parse(self, content: bytes, origin: Origin, header: Sequence[str]) -> RawRow | BadRow:
        """Read a record."""
        delimiter, *names = header
        try:
            cells = _cells(content, delimiter)
        except UnicodeDecodeError as error:
            return BadRow("not text", f"byte {error.start} of the row is not UTF-8; save the file as UTF-8", origin)
        except csv.Error as error:
            return BadRow("invalid value", f"not CSV: {error} in {shorten(content.decode())}", origin)
        if len(cells) != len(names):
            problem = f"the row has {len(cells)} cells; expected {len(names)}, one for each of {quote(names)}"
            return BadRow("invalid value", problem, origin)
        # Only the numbers of rows have no name.
        return RawRow({name: cell or None for name, cell in zip(names, cells, strict=True) if name}, origin)


def _delimiter(path: Path) -> str:
    return "\t" if data_suffix(path.name) == _TAB else ","


def _records(file: IO[bytes], start: Mark, delimiter: str, *, path: Path) -> Iterator[Stretch]:
    """Yield the records that are not blank, of one line or more."""
    file.seek(start.offset)
    offset, line = start.offset, start.line
    taken: list[bytes] = []
    at_end = False

    def lines() -> Iterator[str]:
        nonlocal at_end
        for content in file:
            taken.append(content)
            # Where records end does not depend on the letters; `parse` is strict about them.
            yield content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        at_end = True

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        try:
            next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if at_end:
                # The rest of the file would count as one bad row.
                raise UnreadableDataset(f"{path}:{line}: a quote that this row opens is never closed") from error
        content = b"".join(taken)
        text = content.removeprefix(codecs.BOM_UTF8) if offset == 0 else content
        if text and not text.isspace():
            yield Stretch(offset + len(content) - len(text), line, text)
        offset, line = offset + len(content), line + len(taken)
        taken.clear()


def _cells(content: bytes, delimiter: str) -> list[str]:
    text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    return rows[0] if rows else []
