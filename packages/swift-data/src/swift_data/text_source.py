"""Files of text: rows found by where they stand, and read when they are needed.

A row is a stretch of bytes. Finding a million of them takes half a second and 24 bytes each, whatever they hold; JSON
is taken apart, and checked, row by row when one is asked for.
"""

from __future__ import annotations

import codecs
import functools
import os
import shutil
import tempfile
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar, Final, NamedTuple

from .compression import is_compressed, reading, unpack
from .errors import BadRow
from .source import START, Mark, Origin, RawRow, RowTable, Scanned, Source

# macOS lets a process have 256 files open by default, and others need some too.
_MAX_HELD: Final = 32
_PART: Final = 1 << 20


class Stretch(NamedTuple):
    """The bytes of one row.

    Attributes:
        start: where they begin.
        line: the line on which they do, from 1.
        content: the bytes.
    """

    start: int
    line: int
    content: bytes


class Index(NamedTuple):
    """Where the rows of a file are: the first byte of each, their number, and the line."""

    starts: array[int]
    sizes: array[int]
    lines: array[int]


class TextSource(Source):
    """A source whose rows are stretches of bytes, one after the other."""

    @abstractmethod
    def split(self, file: IO[bytes], start: Mark, *, path: Path) -> Iterator[Stretch]:
        """Yield the rows' bytes from a mark on.

        Args:
            file: at its start.
            start: where a row begins, or the file.
            path: the file's name for messages.

        Raises:
            UnreadableDataset: the rest of the file cannot be taken apart.
        """

    @abstractmethod
    def parse(self, content: bytes, origin: Origin, header: Sequence[str]) -> RawRow | BadRow:
        """Read one row's bytes; `header` is what `read_header` gave."""

    def index(self, file: IO[bytes], *, path: Path) -> Index:
        """Return where all rows are. Raises as `split` does."""
        starts, sizes, lines = Index(array("q"), array("q"), array("q"))
        for start, line, content in self.split(file, START, path=path):
            starts.append(start)
            sizes.append(len(content))
            lines.append(line)
        return Index(starts, sizes, lines)

    def read_header(self, path: Path) -> Sequence[str]:
        """Return what all rows need to be read, such as the names of the columns. Raises as `read` does."""
        return ()

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield the rows."""
        for found in self.scan(path):
            yield found.get()

    def open_rows(self, path: Path) -> RowTable:
        """Return the rows by number, read when they are asked for."""
        return TextTable(self, path)

    def scan(self, path: Path, start: Mark = START) -> Iterator[Scanned]:
        """Yield the rows from a mark on."""
        header = self.read_header(path)
        with reading(path) as file:
            for offset, line, content in self.split(file, start, path=path):
                row = functools.partial(self.parse, content, Origin(str(path), line), header)
                yield Scanned(Mark(offset, line), row)

    def fetch(self, path: Path, marks: Sequence[Mark]) -> Iterator[Scanned]:
        """Yield the rows at these marks."""
        header = self.read_header(path)
        with reading(path) as file:
            for mark in marks:
                # Some seek forward only, and `split` seeks to its mark itself.
                found = next(self.split(file, mark, path=path), None)
                if found is not None:
                    row = functools.partial(self.parse, found.content, Origin(str(path), mark.line), header)
                    yield Scanned(mark, row)


class LineSource(TextSource):
    """A source whose rows are the lines that are not blank; a byte order mark is left out."""

    def split(self, file: IO[bytes], start: Mark, *, path: Path) -> Iterator[Stretch]:
        """Yield the lines with their ends."""
        return split_lines(file, start)

    def index(self, file: IO[bytes], *, path: Path) -> Index:
        """Return where the lines are: what `split` does, in a third of the time."""
        starts, sizes, lines = Index(array("q"), array("q"), array("q"))
        mark = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        file.seek(mark)
        offset = mark
        for line, content in enumerate(file, 1):
            if not content.isspace():
                starts.append(offset)
                sizes.append(len(content))
                lines.append(line)
            offset += len(content)
        return Index(starts, sizes, lines)


class TextTable(RowTable):
    """A text file's rows by number. It can be copied to other processes, which find the rows anew.

    Some files stay open, so that a deleted or replaced one is still what it was. More would not do: a folder may hold
    more files than a process may have open.
    """

    _held: ClassVar[weakref.WeakSet[TextTable]] = weakref.WeakSet()

    def __init__(self, source: TextSource, path: Path) -> None:
        self._source = source
        self._path = path
        self._header = source.read_header(path)
        self._content = path
        self._descriptor: int | None = None
        # Where the content begins in the descriptor's file.
        self._first = 0
        # Without `pread`, forked processes would move each other's position.
        can_hold = hasattr(os, "pread")
        if is_compressed(path) and can_hold:
            self._hold_copy()
            return
        if is_compressed(path):
            self._content = unpack(path)
            weakref.finalize(self, _remove, self._content, os.getpid())
        with self._content.open("rb") as file:
            self._starts, self._sizes, self._lines = source.index(file, path=path)
        if len(self._held) < _MAX_HELD and can_hold:
            self._hold(os.open(self._content, os.O_RDONLY | os.O_CLOEXEC))

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._held.add(self)

    def _hold_copy(self) -> None:
        """Hold a copy of what a compressed file has; it has no name, and goes with its process however that ends."""
        with tempfile.TemporaryFile(prefix="swift-data-") as copy:
            with reading(self._path) as file:
                shutil.copyfileobj(file, copy, _PART)
            copy.seek(0)
            self._starts, self._sizes, self._lines = self._source.index(copy, path=self._path)
            if len(self._held) < _MAX_HELD:
                self._hold(os.dup(copy.fileno()))
                return
            self._shared = SharedCopies.current()
            self._first = self._shared.append(copy)
            self._descriptor = self._shared.fileno()

    def __len__(self) -> int:
        return len(self._starts)

    def __reduce__(self) -> tuple[type[TextTable], tuple[TextSource, Path]]:
        return TextTable, (self._source, self._path)

    def read(self, start: int, stop: int) -> Iterator[RawRow | BadRow]:
        """Yield some of them."""
        name = str(self._path)
        if self._descriptor is not None:
            for index in range(start, stop):
                content = os.pread(self._descriptor, self._sizes[index], self._first + self._starts[index])
                yield self._source.parse(content, Origin(name, self._lines[index]), self._header)
            return
        with open(self._content, "rb", buffering=0 if stop - start == 1 else -1) as file:
            for index in range(start, stop):
                file.seek(self._starts[index])
                content = file.read(self._sizes[index])
                yield self._source.parse(content, Origin(name, self._lines[index]), self._header)


class SharedCopies:
    """One file without a name for the copies of many compressed files; it goes with the last table that reads it."""

    _latest: ClassVar[weakref.ReferenceType[SharedCopies] | None] = None

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="swift-data-")  # noqa: SIM115  # it stays open
        self._process = os.getpid()

    @classmethod
    def current(cls) -> SharedCopies:
        """Return the one that tables of this process add to."""
        found = cls._latest() if cls._latest is not None else None
        # A forked process would write over what the other one adds.
        if found is None or found._process != os.getpid():
            found = cls()
            cls._latest = weakref.ref(found)
        return found

    def append(self, copy: IO[bytes]) -> int:
        """Add a copy, and return where it begins."""
        copy.seek(0)
        place = self._file.seek(0, os.SEEK_END)
        shutil.copyfileobj(copy, self._file, _PART)
        self._file.flush()
        return place

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()


def _remove(path: Path, process: int) -> None:
    # Forked processes have a copy of the table, but not of the file.
    if os.getpid() == process:
        path.unlink(missing_ok=True)


def split_lines(file: IO[bytes], start: Mark) -> Iterator[Stretch]:
    """Yield the lines that are not blank, with their ends; a byte order mark is left out."""
    file.seek(start.offset)
    offset = start.offset
    # In bytes, since text files also end lines at characters that JSON allows inside of strings.
    for line, content in enumerate(file, start.line):
        text = content.removeprefix(codecs.BOM_UTF8) if offset == 0 else content
        if text and not text.isspace():
            yield Stretch(offset + len(content) - len(text), line, text)
        offset += len(content)
