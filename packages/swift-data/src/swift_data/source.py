"""Sources: a file to raw rows, each with the place it came from.

A row that cannot be read is handed on as a `BadRow` instead of being raised, so that the rows after it are still read
and its fellows counted. A source only has to `read`; what it does better than that, it overrides: `open_rows` for rows
by number, `scan` for reading on from a mark.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from swift_templates.errors import DuplicateName
from swift_templates.registry import Registry

from .compression import COMPRESSIONS, data_suffix
from .errors import BadRow, UnsupportedDataset

EXAMPLE_ROWS: Final[Sequence[Mapping[str, str]]] = (
    {"query": "What is 2 + 2?", "response": "4"},
    {"query": "Größe?", "response": "日本\u2028語", "solution": "語"},
)
"""What a source's example file holds; U+2028 ends a line for careless readers."""


@dataclass(frozen=True)
class Origin:
    """Where a row came from; lines count from 1 (or rows, in files that have no lines)."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class RawRow:
    """A row as its file has it."""

    columns: Mapping[str, object]
    origin: Origin


class Mark(NamedTuple):
    """Where a row begins, so that a file can be read on from there.

    Attributes:
        offset: in bytes of the uncompressed content, or in rows: the source knows.
        line: as `Origin` has it.
    """

    offset: int
    line: int


START: Final = Mark(0, 1)
"""A file's start."""


class Scanned(NamedTuple):
    """A row that was found but not looked at yet.

    Attributes:
        mark: where it begins.
        get: reads it; it does not change and may be called again.
    """

    mark: Mark
    get: Callable[[], RawRow | BadRow]


class RowTable(ABC):
    """A file's rows by number."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are, bad ones included."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[RawRow | BadRow]:
        """Yield the rows from number `start` to before `stop`."""


class RowList(RowTable):
    """Rows that are all in memory."""

    def __init__(self, rows: Iterable[RawRow | BadRow]) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, start: int, stop: int) -> Iterator[RawRow | BadRow]:
        """Yield some of them."""
        return iter(self._rows[start:stop])


class Source(ABC):
    """Reads one kind of file.

    Attributes:
        suffixes: endings of such files' names, in lower case, with their dot.
        example: a whole file that holds `example_rows`; documents the kind, and tests run on it.
        example_rows: what the example holds.
        reads_any_text: whether a text without structure, such as a letter, is rows for it.
    """

    suffixes: ClassVar[tuple[str, ...]]
    example: ClassVar[bytes]
    example_rows: ClassVar[Sequence[Mapping[str, object]]] = EXAMPLE_ROWS
    reads_any_text: ClassVar[bool] = False

    @abstractmethod
    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield the rows of a file in their order, and a `BadRow` in place of each that cannot be read.

        Raises:
            OSError: the file cannot be opened.
            UnreadableDataset: the file is broken in a way that leaves the rest of it unreadable.
        """

    def open_rows(self, path: Path) -> RowTable:
        """Return the rows of a file by number. Raises as `read` does.

        This one holds them all in memory.
        """
        return RowList(self.read(path))

    def scan(self, path: Path, start: Mark = START) -> Iterator[Scanned]:
        """Yield the rows from a mark on, unread; a mark is `START` or from an earlier scan. Raises as `read` does.

        This one counts rows, and reads those before the mark again.
        """
        for number, row in enumerate(itertools.islice(self.read(path), start.offset, None), start.offset):
            assert row.origin is not None, "sources give bad rows an origin"
            yield Scanned(Mark(number, row.origin.line), functools.partial(_same, row))

    def fetch(self, path: Path, marks: Sequence[Mark]) -> Iterator[Scanned]:
        """Yield the rows at these marks, which rise. Raises as `read` does.

        This one scans from the first mark to the last.
        """
        wanted = set(marks)
        if not wanted:
            return
        for found in self.scan(path, marks[0]):
            if found.mark in wanted:
                yield found
            if found.mark == marks[-1]:
                return


# The registry checks against its base and never makes one, so the base may be abstract.
SOURCES = Registry(kind="source", package="swift_data.sources", base=Source)


@functools.cache
def sources_by_suffix() -> dict[str, Source]:
    """Return an instance of each registered source under each of its suffixes.

    Raises:
        DuplicateName: two sources claim one suffix (swift_templates.errors).
    """
    found: dict[str, Source] = {}
    for source in (SOURCES.load_class(name)() for name in SOURCES.names()):
        for suffix in source.suffixes:
            if suffix in found:
                both = f"{type(found[suffix]).__name__} and {type(source).__name__}"
                raise DuplicateName(f"suffix {suffix!r} is claimed by the sources {both}; uninstall one of them")
            found[suffix] = source
    return found


def find_source(path: Path) -> Source:
    """Return the source that reads this file, by the ending of its name; that of a compression is looked through.

    Raises:
        UnsupportedDataset: no source reads such files.
    """
    sources = sources_by_suffix()
    source = sources.get(data_suffix(path.name))
    if source is None:
        raise UnsupportedDataset(
            f"dataset {str(path)!r} ends in {path.suffix!r}; readable are {', '.join(sorted(sources))}, also with "
            f"{', '.join(COMPRESSIONS)} behind: convert the file, or rename it if it is one of these"
        )
    return source


def _same(row: RawRow | BadRow) -> RawRow | BadRow:
    return row
