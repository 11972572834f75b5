"""Packing of streams: rows are encoded and packed window by window, with a place that can be saved and gone back to.

A window is so many tokens as some packs hold. All of it goes into packs before the next one is read, so the place is
that of the rows at the window's start and how many of its packs were given: no sample has to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, cast

from swift_templates.encoded import Encoded

from .encoding import Encode
from .errors import InvalidArgument
from .packing import pack
from .row_outcomes import Counts
from .streaming import RowStream

Row = TypeVar("Row")
RowOut = TypeVar("RowOut", covariant=True)

_VERSION: Final = 2
_MIB: Final = 1 << 20
# Rows that are encoded at once.
_BATCH: Final = 64


class RowSource(Protocol[RowOut]):
    """Rows that know where they are, such as a `RowStream`."""

    def __next__(self) -> RowOut:
        """Return the next row."""
        ...

    def state(self) -> Mapping[str, object]:
        """Return where it is, as JSON."""
        ...

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on where a state was taken."""
        ...


class OnlinePacker(Iterator[list[Encoded]], Generic[Row]):
    """Packs of a stream's samples: whole samples, none of them cut; branches of a row together where they fit.

    Args:
        rows: where the samples come from.
        encode: see `encode_dataset`.
        capacity: most tokens of a pack.
        window_packs: packs that are filled at once. More leave less room empty and take more memory: the last pack of a
            window is half full on average.
        window_mib: memory of samples and their media after which a window ends before that.
        on_bad_row: whether a row that cannot be encoded is an error, or is left out and counted.

    Attributes:
        counts: what became of the rows so far, those of the window included.

    Raises:
        InvalidArgument: an option is less than 1.
    """

    def __init__(
        self,
        rows: RowSource[Row],
        encode: Encode[Row],
        *,
        capacity: int,
        window_packs: int = 128,
        window_mib: int = 1024,
        on_bad_row: Literal["raise", "skip"] = "raise",
    ) -> None:
        for name, value in (("capacity", capacity), ("window_packs", window_packs), ("window_mib", window_mib)):
            if value < 1:
                raise InvalidArgument(f"{name} is {value!r}; expected at least 1")
        self._rows = rows
        self._encode = encode
        self._capacity = capacity
        self._window_tokens = window_packs * capacity
        self._window_bytes = window_mib * _MIB
        self._on_bad_row = on_bad_row
        self.counts = Counts()
        self._packs: list[list[Encoded]] = []
        self._given = 0
        self._start: tuple[Mapping[str, object], dict[str, object]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Encoded]:
        """Return the samples of the next pack, in the order of the stream.

        Raises:
            SampleTooLong: a sample does not fit into a pack of its own.
            Exception: what `encode` gave for a row, if `on_bad_row` is 'raise'.
        """
        if self._given == len(self._packs) and not self._fill():
            raise StopIteration
        self._given += 1
        # Let go of what was given.
        given, self._packs[self._given - 1] = self._packs[self._given - 1], []
        return given

    def state(self) -> dict[str, object]:
        """Return where the stream of packs stands, as JSON: after those that were given.

        It is this reader's alone where several share a `RowStream`: they fill their packs at different rates, so each
        saves its own, and there must be as many of them to go on.
        """
        # Between two windows, the next one's start is nearer.
        start = None if self._given == len(self._packs) else self._start
        rows, counts = start or (self._place(), asdict(self.counts))
        return {
            "version": _VERSION,
            "window": [self._capacity, self._window_tokens, self._window_bytes],
            "rows": rows,
            "counts": counts,
            "given": 0 if start is None else self._given,
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on where a state was taken: the same packs follow. The window's rows are read and encoded again.

        Raises:
            InvalidArgument: the state is of other options, or of another reader.
        """
        mine = [_VERSION, [self._capacity, self._window_tokens, self._window_bytes]]
        if [state.get("version"), state.get("window")] != mine:
            raise InvalidArgument(
                f"a place in packs was saved with version and window {[state.get('version'), state.get('window')]!r}, "
                f"and is now {mine!r}; go on with the options it was saved with"
            )
        self._rows.restore(cast("Mapping[str, object]", state["rows"]))
        self.counts = Counts(**cast("dict[str, Any]", state["counts"]))
        self._packs, self._given, self._start = [], 0, None
        given = cast("int", state["given"])
        if given and not (self._fill() and given <= len(self._packs)):
            raise InvalidArgument(f"a place in packs was saved after {given} packs of a window; the rows have changed")
        self._given = given
        self._packs[:given] = [[]] * given

    def _fill(self) -> bool:
        """Read and pack a window; say whether there is anything in it."""
        self._start = self._place(), asdict(self.counts)
        samples: list[Encoded] = []
        groups: list[int] = []
        num_tokens = num_bytes = num_rows = 0
        while num_tokens < self._window_tokens and num_bytes < self._window_bytes:
            batch = self._read()
            if not batch:
                break
            for outcome in self._encode(batch):
                if isinstance(outcome, Exception) and self._on_bad_row == "raise":
                    raise outcome
                num_rows += 1
                for sample in self.counts.note(outcome):
                    self.counts.num_trained += sample.num_trained
                    self.counts.largest_id = max(self.counts.largest_id, int(sample.input_ids.max()))
                    samples.append(sample)
                    groups.append(num_rows)
                    num_tokens += len(sample)
                    num_bytes += _count_bytes(sample)
        packs = pack([len(sample) for sample in samples], self._capacity, groups=groups)
        self._packs = [[samples[index] for index in each] for each in packs]
        self._given = 0
        return bool(packs)

    def _place(self) -> Mapping[str, object]:
        # A window begins anywhere in the batches that the workers of a data loader take in turn.
        rows: object = self._rows
        return rows.reader_state() if isinstance(rows, RowStream) else self._rows.state()

    def _read(self) -> list[Row]:
        batch: list[Row] = []
        while len(batch) < _BATCH:
            try:
                batch.append(next(self._rows))
            except StopIteration:
                break
        return batch


def _count_bytes(sample: Encoded) -> int:
    media = sum(array.nbytes for array in sample.media.values())
    return sample.input_ids.nbytes + sample.labels.nbytes + sample.loss_scale.nbytes + media
