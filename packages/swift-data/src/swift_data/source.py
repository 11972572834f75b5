"""Sources: a file to raw rows, each with the place it came from.

A row that cannot be read is handed on as a `BadRow` instead of being raised, so that the rows after it are still read
and its fellows counted.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from swift_templates.errors import DuplicateName
from swift_templates.registry import Registry

from .errors import BadRow, UnsupportedDataset


@dataclass(frozen=True)
class Origin:
    """Where a row came from; lines count from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class RawRow:
    """A row as its file has it."""

    columns: Mapping[str, object]
    origin: Origin


class Source(ABC):
    """Reads one kind of file.

    Attributes:
        suffixes: endings of such files' names, in lower case, with their dot.
        example: a whole file that holds `swift_data.testing.EXAMPLE_ROWS`; documents the kind, and tests run on it.
    """

    suffixes: ClassVar[tuple[str, ...]]
    example: ClassVar[bytes]

    @abstractmethod
    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield the rows of a file in their order, and a `BadRow` in place of each that cannot be read.

        Raises:
            OSError: the file cannot be opened.
            UnreadableDataset: the file is broken in a way that leaves the rest of it unreadable.
        """


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
    """Return the source that reads this file, by the ending of its name.

    Raises:
        UnsupportedDataset: no source reads such files.
    """
    sources = sources_by_suffix()
    source = sources.get(path.suffix.lower())
    if source is None:
        raise UnsupportedDataset(
            f"dataset {str(path)!r} ends in {path.suffix!r}; readable are {', '.join(sorted(sources))}: "
            "convert the file, or rename it if it is one of these"
        )
    return source
