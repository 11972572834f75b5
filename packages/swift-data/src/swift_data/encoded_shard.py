"""A shard: the samples of some rows in one file that is complete or absent, read by memory map, without pickle.

Arrays are appended as they are made, so that a shard never has to fit into memory; tables of where each begins, and a
JSON object, end the file. It is written beside its place and renamed when it is whole: whoever reads it, another
process too, sees all of it or nothing. Tables are checked when the file is opened, a sample when it is read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import IGNORED, Encoded

from .errors import InvalidArgument, SwiftDataError, UnreadableDataset
from .row_outcomes import Counts, Failure, Outcome, to_reason

_MAGIC: Final = b"swiftenc"
_VERSION: Final = 2
# Where the JSON object begins, how long it is, its check sum.
_TRAILER: Final = struct.Struct("<QQI8s")
_ALIGNMENT: Final = 8
_ZEROS: Final = bytes(_ALIGNMENT)
_MAX_DIMENSIONS: Final = 8
_TOGETHER: Final = 64

KEPT_FAILURES: Final = 20
"""How many failures are kept with their messages."""

_SAMPLE: Final = np.dtype(
    [
        ("offset", "<i8"),
        ("length", "<i4"),
        ("row", "<i4"),
        ("trained", "<i4"),
        ("form", "<i4"),
        ("size", "<i4"),
        ("check_sum", "<u4"),
    ]
)
_MEDIUM: Final = np.dtype(
    [
        ("sample", "<i4"),
        ("name", "<i4"),
        ("type", "<i4"),
        ("ndim", "<i4"),
        ("check_sum", "<u4"),
        ("offset", "<i8"),
        ("shape", "<i8", (_MAX_DIMENSIONS,)),
    ]
)
_UNBROKEN: Final = np.dtype([("sample", "<i4"), ("start", "<i4"), ("end", "<i4")])
_FAILED: Final = np.dtype("<i4")

# The forms of a sample: its ids take 2 bytes each instead of 4; its weights are 0 and 1, and a bit each; its labels are
# not what its weights say, and stand behind them.
_SHORT_IDS, _BITS, _OWN_LABELS = 1, 2, 4


class UnusableFolder(SwiftDataError, OSError):
    """Encoded rows cannot be written where they should be kept."""


class ShardWriter:
    """Writes a shard; leaving the `with` block puts it into its place, an error there leaves nothing.

    Args:
        path: its place.
        key: of the rows' encoding.
        first_row: the place of its first row among all rows.

    Raises:
        UnusableFolder: the file cannot be written, on entering and leaving the block and when something is added.
    """

    def __init__(self, path: Path, *, key: str, first_row: int) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        self._key = key
        self._first_row = first_row
        self._counts = Counts()
        self._failures: list[Failure] = []
        self._may_pass = False
        self._samples: list[tuple[int, ...]] = []
        self._media: list[tuple[int, int, int, int, int, int, list[int]]] = []
        self._waiting: list[tuple[int, Encoded]] = []
        self._unbroken: list[tuple[int, int, int]] = []
        self._failed: list[int] = []
        self._names: dict[str, int] = {}
        self._types: dict[str, int] = {}

    def __enter__(self) -> Self:
        with _naming(self._path.parent):
            self._file = self._beside.open("xb")
            self._file.write(_MAGIC)
        self._at = len(_MAGIC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with _naming(self._path.parent):
                # What waits to be written is written on closing.
                with self._file:
                    if error is None:
                        self._finish()
                        self._file.flush()
                        os.fsync(self._file.fileno())
                if error is None:
                    self._beside.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._beside.unlink(missing_ok=True)

    def add(self, result: Outcome, *, may_pass: bool = False) -> None:
        """Append what became of the next row.

        Args:
            result: its samples, or why there are none.
            may_pass: of an error, whether it may be gone the next time.

        Raises:
            InvalidArgument: a sample's arrays differ in length, or are of a kind that cannot be kept.
        """
        row = self._counts.num_rows
        samples = self._counts.note(result)
        if isinstance(result, Exception):
            self._failed.append(row)
            self._may_pass |= may_pass
            if len(self._failures) < KEPT_FAILURES:
                self._failures.append(Failure(self._first_row + row, to_reason(result), str(result)))
        # Samples of a row may share their media.
        places: dict[int, tuple[int, int]] = {}
        for sample in samples:
            if not 0 < len(sample) == len(sample.labels) == len(sample.loss_scale):
                raise InvalidArgument(
                    f"row {self._first_row + row} became a sample with {len(sample)} input_ids, {len(sample.labels)} "
                    f"labels and {len(sample.loss_scale)} loss_scale; expected equally many, and one or more"
                )
            number = len(self._samples) + len(self._waiting)
            self._waiting.append((row, sample))
            self._unbroken += [(number, start, end) for start, end in sample.unbroken]
            for name, array in sample.media.items():
                self._add_medium(number, name, np.asarray(array), places)
        if len(self._waiting) >= _TOGETHER:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the samples that wait: numpy takes as long for one short array as for many joined."""
        if not self._waiting:
            return
        ids = np.concatenate([sample.input_ids for _, sample in self._waiting], dtype=np.int64)
        labels = np.concatenate([sample.labels for _, sample in self._waiting], dtype=np.int64)
        weights = np.concatenate([sample.loss_scale for _, sample in self._waiting], dtype="<f4")
        ends = list(itertools.accumulate(len(sample) for _, sample in self._waiting))
        starts = [0, *ends[:-1]]
        if ids.min() < 0 or ids.max() >= 1 << 32:
            raise InvalidArgument(f"rows up to {self._first_row + self._waiting[-1][0]} have a token id out of range")
        is_weighted = weights > 0
        largest = np.maximum.reduceat(ids, starts)
        has_bits = np.logical_and.reduceat(weights == is_weighted, starts)
        is_plain = np.logical_and.reduceat(labels == np.where(is_weighted, ids, IGNORED), starts)
        trained = np.add.reduceat(labels != IGNORED, starts, dtype=np.int64)
        forms = (largest < 1 << 16) * _SHORT_IDS + has_bits * _BITS + ~is_plain * _OWN_LABELS
        self._counts.largest_id = max(self._counts.largest_id, int(largest.max()))
        self._counts.num_trained += int(trained.sum())
        short, long = ids.astype("<u2"), ids.astype("<u4")
        contents = []
        for start, end, form in zip(starts, ends, forms.tolist(), strict=True):
            content = (short if form & _SHORT_IDS else long)[start:end].tobytes()
            content += np.packbits(is_weighted[start:end]).tobytes() if form & _BITS else weights[start:end].tobytes()
            if form & _OWN_LABELS:
                content += labels[start:end].astype("<i4").tobytes()
            contents.append(content)
        each = zip(self._write(*contents), self._waiting, trained.tolist(), forms.tolist(), contents, strict=True)
        for place, (row, sample), number, form, content in each:
            self._samples.append((place, len(sample), row, number, form, len(content), zlib.crc32(content)))
        self._waiting.clear()

    def _add_medium(
        self, number: int, name: str, array: npt.NDArray[np.generic], places: dict[int, tuple[int, int]]
    ) -> None:
        if array.dtype.kind not in "biufc" or array.ndim > _MAX_DIMENSIONS:
            raise InvalidArgument(
                f"{name} is an array of {array.dtype} with {array.ndim} axes; expected numbers, and {_MAX_DIMENSIONS} "
                "axes at most"
            )
        if id(array) not in places:
            # Numpy hands over its own memory.
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            [place] = self._write(data)
            places[id(array)] = place, zlib.crc32(data)
        known_name = self._names.setdefault(name, len(self._names))
        known_type = self._types.setdefault(array.dtype.str, len(self._types))
        shape = [*array.shape, *[0] * (_MAX_DIMENSIONS - array.ndim)]
        place, check_sum = places[id(array)]
        self._media.append((number, known_name, known_type, array.ndim, check_sum, place, shape))

    def _write(self, *contents: bytes | memoryview) -> list[int]:
        """Append some things, and return where each is."""
        places = []
        with _naming(self._path.parent):
            for content in contents:
                gap = -self._at % _ALIGNMENT
                self._file.write(_ZEROS[:gap])
                self._file.write(content)
                places.append(self._at + gap)
                self._at += gap + len(content)
        return places

    def _finish(self) -> None:
        self._write_waiting()
        tables = {
            "samples": np.array(self._samples, dtype=_SAMPLE),
            "media": np.array([(*rest, tuple(shape)) for *rest, shape in self._media], dtype=_MEDIUM),
            "unbroken": np.array(self._unbroken, dtype=_UNBROKEN),
            "failed": np.array(self._failed, dtype=_FAILED),
        }
        facts = {
            "version": _VERSION,
            "key": self._key,
            "first_row": self._first_row,
            "counts": asdict(self._counts),
            "failures": self._failures,
            "may_pass": self._may_pass,
            "names": list(self._names),
            "types": list(self._types),
            "tables": {
                name: [*self._write(table.tobytes()), len(table), zlib.crc32(table.tobytes())]
                for name, table in tables.items()
            },
        }
        written = json.dumps(facts).encode()
        [place] = self._write(written)
        self._file.write(_TRAILER.pack(place, len(written), zlib.crc32(written), _MAGIC))


class Shard:
    """A shard, open for reading.

    Args:
        path: the file.
        key: what its encoding must have.
        first_row: what its first row must be.

    Raises:
        UnreadableDataset: it is not there, is damaged, or belongs to something else.
    """

    def __init__(self, path: Path, *, key: str, first_row: int) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            facts = self._read_facts()
            if (facts["version"], facts["key"], facts["first_row"]) != (_VERSION, key, first_row):
                raise ValueError("it belongs to other rows")
            self._names: list[str] = facts["names"]
            self._types = [np.dtype(each) for each in facts["types"]]
            if any(each.kind not in "biufc" for each in self._types):
                raise ValueError("an array is of an unknown kind")
            tables = facts["tables"]
            self.samples = self._table(_SAMPLE, *tables["samples"])
            self._media = self._table(_MEDIUM, *tables["media"])
            self._unbroken = self._table(_UNBROKEN, *tables["unbroken"])
            self.failed = self._table(_FAILED, *tables["failed"])
            self.counts = Counts(**facts["counts"])
            self.failures = [Failure(*each) for each in facts["failures"]]
            self.may_pass = bool(facts["may_pass"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnreadableDataset(
                f"encoded rows {str(path)!r} cannot be read: {error}; remove the file, and encode again"
            ) from error

    @property
    def has_media(self) -> npt.NDArray[np.bool_]:
        """Bool (S,) which samples have media."""
        found = np.zeros(len(self.samples), dtype=np.bool_)
        found[self._media["sample"]] = True
        return found

    def read(self, number: int) -> Encoded:
        """Return a sample, whose arrays may be changed.

        Raises:
            UnreadableDataset: it is damaged.
        """
        offset, length, _, _, form, size, check_sum = (int(each) for each in self.samples[number].item())
        self._check(offset, size, check_sum)
        id_type = np.dtype("<u2" if form & _SHORT_IDS else "<u4")
        ids = np.frombuffer(self._map, id_type, length, offset).astype(np.int64)
        offset += length * id_type.itemsize
        if form & _BITS:
            num_bytes = -(-length // 8)
            bits = np.unpackbits(np.frombuffer(self._map, np.uint8, num_bytes, offset), count=length)
            is_weighted, weights = bits.view(np.bool_), bits.astype(np.float32)
            offset += num_bytes
        else:
            # Bytes before them may have any number.
            weights = np.frombuffer(self._map[offset : offset + 4 * length], "<f4").astype(np.float32)
            is_weighted = weights > 0
            offset += 4 * length
        if form & _OWN_LABELS:
            labels = np.frombuffer(self._map[offset : offset + 4 * length], "<i4").astype(np.int64)
        else:
            labels = np.where(is_weighted, ids, IGNORED)
        return Encoded(ids, labels, weights, self._read_media(number), self._read_unbroken(number))

    def _read_media(self, number: int) -> dict[str, npt.NDArray[np.generic]]:
        if not len(self._media):
            return {}
        start, stop = np.searchsorted(self._media["sample"], [number, number + 1])
        media = {}
        for _, name, kind, ndim, check_sum, offset, shape in self._media[start:stop].tolist():
            size = int(np.prod(shape[:ndim], dtype=np.int64))
            self._check(offset, size * self._types[kind].itemsize, check_sum)
            array = np.frombuffer(self._map, self._types[kind], size, offset).reshape(shape[:ndim])
            media[self._names[name]] = array.copy()
        return media

    def _read_unbroken(self, number: int) -> tuple[tuple[int, int], ...]:
        if not len(self._unbroken):
            return ()
        start, stop = np.searchsorted(self._unbroken["sample"], [number, number + 1])
        return tuple((left, right) for _, left, right in self._unbroken[start:stop].tolist())

    def _read_facts(self) -> dict[str, Any]:
        if len(self._map) < len(_MAGIC) + _TRAILER.size or self._map[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it is no such file")
        place, size, check_sum, magic = _TRAILER.unpack(self._map[-_TRAILER.size :])
        written = self._map[place : place + size]
        if magic != _MAGIC or place + size + _TRAILER.size != len(self._map) or zlib.crc32(written) != check_sum:
            raise ValueError("it is damaged")
        facts: dict[str, Any] = json.loads(written)
        return facts

    def _table(self, kind: np.dtype[Any], offset: int, count: int, check_sum: int) -> npt.NDArray[Any]:
        table = np.frombuffer(self._map, kind, count, offset)
        if zlib.crc32(table.view(np.uint8).data) != check_sum:
            raise ValueError("it is damaged")
        return table

    def _check(self, offset: int, size: int, check_sum: int) -> None:
        if zlib.crc32(memoryview(self._map)[offset : offset + size]) != check_sum:
            raise UnreadableDataset(
                f"encoded rows {str(self._path)!r} cannot be read: a sample is damaged; remove the file, and encode "
                "again"
            )


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say of an error of the system which folder it is about: that of a full disk names none."""
    try:
        yield
    except UnusableFolder:
        raise
    except OSError as error:
        raise UnusableFolder(f"encoded rows cannot be written to {str(folder)!r}: {error.strerror or error}") from error
