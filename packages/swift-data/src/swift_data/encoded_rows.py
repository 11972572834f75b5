"""Encoded rows as a sequence of samples in constant memory: shards on disk, read by memory map."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import Encoded

from .encoded_shard import KEPT_FAILURES, Shard
from .row_outcomes import Counts


class EncodedRows(Sequence[Encoded]):
    """The samples of encoded rows, in the order of their rows, read from disk when they are asked for.

    It can be handed to other processes, which open the files anew.

    Args:
        folder: has the shards.
        key: of the encoding.
        num_rows: how many rows were encoded.
        rows_per_shard: how many rows each shard has, but for the last.

    Attributes:
        folder: as given.
        lengths: int32 (S,) tokens of each sample.
        row_indices: int64 (S,) which row each sample came from.
        has_media: bool (S,) which samples have media.
        failed_rows: int64 rows that could not be encoded.
        failures: the first of them.
        counts: what became of the rows.

    Raises:
        UnreadableDataset: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, *, key: str, num_rows: int, rows_per_shard: int) -> None:
        self.folder = folder
        self._key, self._num_rows, self._rows_per_shard = key, num_rows, rows_per_shard
        starts = range(0, num_rows, rows_per_shard)
        self._shards = [
            Shard(shard_path(folder, number), key=key, first_row=start) for number, start in enumerate(starts)
        ]
        tables = [shard.samples for shard in self._shards]
        self._ends = np.cumsum([len(table) for table in tables]).tolist()
        self.lengths = np.concatenate([*(table["length"] for table in tables), np.zeros(0, np.int32)], dtype=np.int32)
        self.has_media = np.concatenate([*(shard.has_media for shard in self._shards), np.zeros(0, np.bool_)])
        self.row_indices = _number_rows([table["row"] for table in tables], starts)
        self.failed_rows = _number_rows([shard.failed for shard in self._shards], starts)
        self.failures = [each for shard in self._shards for each in shard.failures][:KEPT_FAILURES]
        self.counts = Counts()
        for shard in self._shards:
            self.counts.add(shard.counts)

    @property
    def num_rows(self) -> int:
        """Rows that were encoded."""
        return self._num_rows

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples."""
        return int(self.lengths.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        number = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {index} is asked for; there are {len(self)}")
        shard = bisect.bisect_right(self._ends, number)
        return self._shards[shard].read(number - (self._ends[shard - 1] if shard else 0))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _open, (self.folder, self._key, self._num_rows, self._rows_per_shard)

    def __repr__(self) -> str:
        return f"<{len(self)} samples of {self._num_rows} rows in {str(self.folder)!r}>"


def shard_path(folder: Path, number: int) -> Path:
    """Return the place of a shard."""
    return folder / f"{number:06}.shard"


def _open(folder: Path, key: str, num_rows: int, rows_per_shard: int) -> EncodedRows:
    return EncodedRows(folder, key=key, num_rows=num_rows, rows_per_shard=rows_per_shard)


def _number_rows(in_shards: Sequence[npt.NDArray[np.int32]], starts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the places of rows among all rows, by those in their shards."""
    numbers = [rows.astype(np.int64) + start for rows, start in zip(in_shards, starts, strict=True)]
    return np.concatenate([*numbers, np.zeros(0, np.int64)])
