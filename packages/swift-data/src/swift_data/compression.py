"""Compressed files: any kind of dataset file may end in .gz, .bz2, .xz or .zst as well.

Streams decompress as they read. Random access needs an uncompressed copy in a temporary file, which goes with its
reader.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from swift_templates.errors import MissingDependency

from .errors import UnreadableDataset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer


class _ZstdFile(io.RawIOBase):
    """A .zst file of one or several frames, which says so where the last one is cut off."""

    def __init__(self, path: Path) -> None:
        try:
            import zstandard
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"zstandard is needed to read {str(path)!r}; pip install 'swift-data[zstd]', or decompress the file"
            ) from error
        self._error = zstandard.ZstdError
        self._make = zstandard.ZstdDecompressor().decompressobj
        self._file = path.open("rb")
        self._ready, self._position = b"", 0
        self._rewind()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET, "a buffered reader seeks from the start"
        if offset < self._position:
            self._rewind()
        while self._position < offset and self.read(min(offset - self._position, 1 << 20)):
            pass
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._ready:
            if not self._decompress():
                return 0
        size = min(len(view), len(self._ready))
        view[:size], self._ready = self._ready[:size], self._ready[size:]
        self._position += size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._frame = self._make()
        self._in_frame = False
        self._ready = b""
        self._position = 0

    def _decompress(self) -> bool:
        compressed = (self._frame.unused_data if self._frame.eof else b"") or self._file.read(1 << 17)
        if not compressed:
            if self._in_frame:
                raise EOFError("it ends in the middle")
            return False
        if self._frame.eof:
            self._frame = self._make()
        try:
            self._ready = self._frame.decompress(compressed)
        except self._error as error:
            raise EOFError(str(error)) from error
        self._in_frame = not self._frame.eof
        return True


_OPENERS: Final[dict[str, Callable[[Path], io.BufferedIOBase]]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda path: io.BufferedReader(_ZstdFile(path), 1 << 20),
}

COMPRESSIONS: Final = tuple(_OPENERS)
"""Endings of compressed files' names."""


def data_suffix(name: str) -> str:
    """Return the ending that says what a file holds, in lower case: '.jsonl' of 'a.jsonl' and of 'a.jsonl.gz'."""
    path = Path(name)
    return Path(path.stem).suffix.lower() if path.suffix.lower() in _OPENERS else path.suffix.lower()


def is_compressed(path: Path) -> bool:
    """Say whether a file's name has the ending of a compressed one."""
    return path.suffix.lower() in _OPENERS


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading from its start to its end; seeking forward is possible, and slow where it is compressed.

    Raises:
        OSError: it cannot be opened.
        UnreadableDataset: what it holds cannot be decompressed.
        MissingDependency: its compression needs a package (swift_templates.errors).
    """
    opener = _OPENERS.get(path.suffix.lower())
    with path.open("rb") if opener is None else cast("IO[bytes]", opener(path)) as file:
        if opener is None:
            yield file
            return
        try:
            yield file
        except UnreadableDataset:
            # What it decompresses to is broken, not the compression.
            raise
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise UnreadableDataset(f"{path}: not a whole {path.suffix} file: {error}") from error
        except OSError as error:
            # What bz2 raises; a true error of the disk has a number.
            if error.errno is not None:
                raise
            raise UnreadableDataset(f"{path}: not a whole {path.suffix} file: {error}") from error


def unpack(path: Path) -> Path:
    """Copy what a compressed file holds to a temporary file, which the caller removes. Raises as `reading` does."""
    with tempfile.NamedTemporaryFile(prefix="swift-data-", delete=False) as copy:
        try:
            with reading(path) as file:
                shutil.copyfileobj(file, copy, 1 << 20)
        except BaseException:
            os.unlink(copy.name)
            raise
    return Path(copy.name)


def open_seekable(path: Path) -> IO[bytes]:
    """Open a file for random access; what a compressed one holds is copied to memory. Raises as `reading` does."""
    if not is_compressed(path):
        return path.open("rb")
    with reading(path) as file:
        return io.BytesIO(file.read())
