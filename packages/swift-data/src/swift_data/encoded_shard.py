"""A shard: the samples of some rows in one file that is complete or absent, read by memory map, without pickle.

Arrays are appended as they are made, so that a shard never has to fit into memory; tables of where each begins, and a
JSON object, end the file. It is written beside its place and renamed when it is whole: whoever reads it, another
process too, sees all of it or nothing.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import IGNORED, Encoded

from .errors import BadRow, InvalidArgument, UnreadableDataset
from .row_outcomes import Counts, Failure, FittedRow

_MAGIC: Final = b"swiftenc"
_VERSION: Final = 1
# Where the JSON object begins, how long it is, its check sum.
_TRAILER: Final = struct.Struct("<QQI8s")
_ALIGNMENT: Final = 8
_MAX_DIMENSIONS: Final = 8

KEPT_FAILURES: Final = 20
"""How many failures are kept with their messages."""

_SAMPLE: Final = np.dtype([("offset", "<i8"), ("length", "<i4"), ("row", "<i4"), ("trained", "<i4"), ("form", "<i4")])
_MEDIUM: Final = np.dtype(
    [
        ("sample", "<i4"),
        ("name", "<i4"),
        ("type", "<i4"),
        ("ndim", "<i4"),
        ("offset", "<i8"),
        ("shape", "<i8", (_MAX_DIMENSIONS,)),
    ]
)
_UNBROKEN: Final = np.dtype([("sample", "<i4"), ("start", "<i4"), ("end", "<i4")])
_FAILED: Final = np.dtype("<i4")

# The forms of a sample: its ids take 2 bytes each instead of 4; its weights are 0 and 1, and a bit each; its labels are
# not what its weights say, and stand behind them.
_SHORT_IDS, _BITS, _OWN_LABELS = 1, 2, 4


class ShardWriter:
    """Writes a shard; leaving the `with` block puts it into its place, an error there leaves nothing.

    Args:
        path: its place.
        key: of the rows' encoding.
        first_row: the place of its first row among all rows.
    """

    def __init__(self, path: Path, *, key: str, first_row: int) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        self._key = key
        self._first_row = first_row
        self._counts = Counts()
        self._failures: list[Failure] = []
        self._may_pass = False
        self._samples: list[tuple[int, int, int, int, int]] = []
        self._media: list[tuple[int, int, int, int, int, list[int]]] = []
        self._unbroken: list[tuple[int, int, int]] = []
        self._failed: list[int] = []
        self._names: dict[str, int] = {}
        self._types: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._file = self._beside.open("xb")
        self._file.write(_MAGIC)
        self._at = len(_MAGIC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if error is None:
                    self._finish()
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if error is None:
                self._beside.replace(self._path)
                _sync_folder(self._path.parent)
        finally:
            self._beside.unlink(missing_ok=True)

    def add(self, result: Sequence[Encoded] | FittedRow | Exception, *, may_pass: bool = False) -> None:
        """Append what became of the next row.

        Args:
            result: its samples, or why there are none.
            may_pass: of an error, whether it may be gone the next time.

        Raises:
            InvalidArgument: a sample's arrays differ in length, or are of a kind that cannot be kept.
        """
        row = self._counts.num_rows
        self._counts.num_rows += 1
        if isinstance(result, Exception):
            reason = result.reason if isinstance(result, BadRow) else type(result).__name__
            self._counts.errors[reason] = self._counts.errors.get(reason, 0) + 1
            self._failed.append(row)
            self._may_pass |= may_pass
            if len(self._failures) < KEPT_FAILURES:
                self._failures.append(Failure(self._first_row + row, reason, str(result)))
            return
        if isinstance(result, FittedRow):
            own = Counts(num_cut=result.num_cut, num_left_out=result.num_left_out, longest=result.longest)
            self._counts.add(own)
            samples, num_before = result.samples, len(result.samples) + result.num_left_out
        else:
            samples, num_before = result, len(result)
        self._counts.num_untrained += num_before == 0
        # Samples of a row may share their media.
        places: dict[int, int] = {}
        for sample in samples:
            self._add_sample(row, sample, places)

    def _add_sample(self, row: int, sample: Encoded, places: dict[int, int]) -> None:
        ids, labels, weights, length = sample.input_ids, sample.labels, sample.loss_scale, len(sample)
        if not length == len(labels) == len(weights):
            raise InvalidArgument(
                f"row {self._first_row + row} became a sample with {length} input_ids, {len(labels)} labels and "
                f"{len(weights)} loss_scale; expected equally many"
            )
        largest = int(ids.max(initial=0))
        if length and not (ids.min() >= 0 and largest < 1 << 32):
            raise InvalidArgument(f"row {self._first_row + row} has a token id that is negative or too large")
        form = _SHORT_IDS if largest < 1 << 16 else 0
        parts = [ids.astype("<u2" if form else "<u4").tobytes()]
        is_weighted = weights > 0
        if np.array_equal(weights, is_weighted):
            form |= _BITS
            parts.append(np.packbits(is_weighted).tobytes())
        else:
            parts.append(weights.astype("<f4").tobytes())
        if not np.array_equal(labels, np.where(is_weighted, ids, IGNORED)):
            form |= _OWN_LABELS
            parts.append(labels.astype("<i4").tobytes())
        number, trained = len(self._samples), sample.num_trained
        self._samples.append((self._write(b"".join(parts)), length, row, trained, form))
        self._unbroken += [(number, start, end) for start, end in sample.unbroken]
        for name, array in sample.media.items():
            self._add_medium(number, name, np.asarray(array), places)
        own = Counts(num_trained=trained, longest=length, largest_id=largest if length else -1)
        self._counts.add(own)

    def _add_medium(self, number: int, name: str, array: npt.NDArray[np.generic], places: dict[int, int]) -> None:
        if array.dtype.kind not in "biufc" or array.ndim > _MAX_DIMENSIONS:
            raise InvalidArgument(
                f"{name} is an array of {array.dtype} with {array.ndim} axes; expected numbers, and {_MAX_DIMENSIONS} "
                "axes at most"
            )
        if id(array) not in places:
            places[id(array)] = self._write(np.ascontiguousarray(array))
        known_name = self._names.setdefault(name, len(self._names))
        known_type = self._types.setdefault(array.dtype.str, len(self._types))
        shape = [*array.shape, *[0] * (_MAX_DIMENSIONS - array.ndim)]
        self._media.append((number, known_name, known_type, array.ndim, places[id(array)], shape))

    def _write(self, content: bytes | npt.NDArray[np.generic]) -> int:
        """Append something, and return where it is."""
        gap = -self._at % _ALIGNMENT
        self._file.write(bytes(gap))
        self._at += gap
        place = self._at
        # Numpy hands over its own memory.
        data = content if isinstance(content, bytes) else content.reshape(-1).view(np.uint8).data
        self._file.write(data)
        self._at += len(data)
        return place

    def _finish(self) -> None:
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
            "tables": {name: [self._write(table.tobytes()), len(table)] for name, table in tables.items()},
        }
        written = json.dumps(facts).encode()
        place = self._write(written)
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

    def read(self, number: int) -> Encoded:
        """Return a sample; what is as it stands on disk, such as media, is a view of the file."""
        offset, length, _, _, form = (int(each) for each in self.samples[number].item())
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
        for _, name, kind, ndim, offset, shape in self._media[start:stop].tolist():
            size = int(np.prod(shape[:ndim], dtype=np.int64))
            media[self._names[name]] = np.frombuffer(self._map, self._types[kind], size, offset).reshape(shape[:ndim])
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

    def _table(self, kind: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self._map, kind, count, offset)


def _sync_folder(folder: Path) -> None:
    # Windows opens no folders; its renames are written by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
