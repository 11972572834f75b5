"""Streams: rows read as they are needed, for datasets that are too large to be counted first.

A stream is one order of rows that seed and epoch decide. Its readers, the ranks and workers of a run, share it out:
each takes its rows from the same order, so the union of what they read does not depend on how many they are. Where a
stream stands is a small JSON object: the offsets in its files, and those of the rows that wait in the shuffle buffer.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Final, Literal, Self, cast

from .args import DataArgs
from .bad_rows import REMEDY, describe_counts
from .chat_row import ChatRow
from .column_format import Answers
from .errors import BadRow, EmptyDataset, InvalidArgument, Reason
from .lookup import FoundDataset, find_dataset
from .mixing import check_weights
from .row_sequence import make_reading
from .rows import Purpose, check_ratio
from .spec import DatasetSpec, parse_spec
from .stream_parts import Entry, ShuffleBuffer, Split, StreamedDataset, Turns

logger = logging.getLogger(__name__)

Side = Literal["all", "training", "validation"]
"""Which rows a stream reads: all, or those that `split_dataset_ratio` leaves or sets aside."""

_VERSION: Final = 2


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a stream that one reader takes.

    Row number n of the stream belongs to rank n modulo `num_ranks`. A rank's rows form batches, which its workers take
    in turn, as the workers of a data loader do.

    Attributes:
        rank: from 0, among the processes that train.
        num_ranks: how many there are.
        worker: from 0, among this rank's processes that read.
        num_workers: how many there are.
        batch_size: rows that a worker takes before it is another's turn.
    """

    rank: int = 0
    num_ranks: int = 1
    worker: int = 0
    num_workers: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.num_ranks and 0 <= self.worker < self.num_workers and self.batch_size >= 1):
            raise InvalidArgument(
                f"{self} is no share; expected rank and worker below their numbers, and batch_size >= 1"
            )

    @property
    def round(self) -> int:
        """After how many rows of the stream this reader's state is every rank's."""
        return self.num_ranks * (1 if self.num_workers == 1 else self.batch_size)

    def has(self, number: int) -> bool:
        """Say whether a row of the stream, counted from its start or from where it was resumed, is this reader's."""
        turn, rank = divmod(number, self.num_ranks)
        return rank == self.rank and turn // self.batch_size % self.num_workers == self.worker


class RowStream(Iterator[ChatRow]):
    """Rows of datasets as an iterator that knows where it is; made by `open_stream`.

    Attributes:
        skipped: how many bad rows of the whole stream were left out so far, by reason; each is counted once, however
            often it is read.
    """

    def __init__(
        self, buffer: ShuffleBuffer, *, share: Share, num_epochs: int | None, skipped: Counter[Reason], identity: str
    ) -> None:
        self._buffer = buffer
        self._share = share
        self._num_epochs = num_epochs
        self._identity = identity
        self._epoch = 0
        self._read = 0
        self._resumed_at = 0
        self._is_started = False
        self._num_told = 0
        self.skipped = skipped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatRow:
        while (entry := self._pop()) is not None:
            if self._share.has(self._read - 1 - self._resumed_at):
                return self._to_row(entry)
        raise StopIteration

    def reader_state(self) -> dict[str, object]:
        """Return where this reader stands, as JSON, inside of a batch too.

        A stream with the same `Share` alone can go on from there: each rank and worker has a state of its own.
        """
        return {**self._state(), "share": list(astuple(self._share)), "resumed_at": self._resumed_at}

    def state(self) -> dict[str, object]:
        """Return where the stream stands, as JSON: after the rows that this reader has given.

        All ranks that have given equally many rows return the same, and a stream with any other `Share` can go on from
        there. The worker to ask is the one that gave the last batch.

        Raises:
            InvalidArgument: one of several workers has given half a batch.
        """
        while (done := self._read - self._resumed_at) % self._share.round != 0:
            # What comes until the round is over is other readers'.
            if self._share.has(done):
                raise InvalidArgument(
                    "a worker's state was asked for inside of a batch; ask for it after whole batches"
                )
            if self._pop() is None:
                break
        return self._state()

    def _state(self) -> dict[str, object]:
        turns = self._buffer.turns
        return {
            "version": _VERSION,
            "data": self._identity,
            "epoch": self._epoch,
            "read": self._read,
            "started": self._is_started,
            "skipped": dict(self.skipped),
            "told": self._num_told,
            "turns": turns.state(),
            "buffer": self._buffer.state(),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on where a state was taken: the same rows follow, in the same order. What was read is not read again.

        Args:
            state: what `state` or `reader_state` returned, in this process or another.

        Raises:
            InvalidArgument: it belongs to other data or options, or is that of another reader.
            UnreadableDataset: a file has changed.
        """
        if state.get("version") != _VERSION or state.get("data") != self._identity:
            raise InvalidArgument(
                "the saved position belongs to other data: datasets, their files' sizes and the options columns, "
                "on_bad_row, data_seed, dataset_shuffle, shuffle_buffer_size, interleave_prob, stopping_strategy and "
                "split_dataset_ratio must be what they were"
            )
        if "share" in state and state["share"] != list(astuple(self._share)):
            names = [each.name for each in fields(Share)]
            saved = dict(zip(names, cast("list[int]", state["share"]), strict=True))
            raise InvalidArgument(
                f"the saved position is that of the reader {saved}, and this one is {asdict(self._share)}; each reader "
                "goes on from its own, and there must be as many as there were"
            )
        # Its shape is that of `state`, since the identity is right.
        self._epoch, self._read = cast("int", state["epoch"]), cast("int", state["read"])
        self._is_started = cast("bool", state["started"])
        self._resumed_at = cast("int", state["resumed_at"]) if "share" in state else self._read
        if self._is_started:
            turns, buffer = cast("dict[str, list[int]]", state["turns"]), cast("dict[str, object]", state["buffer"])
            self._buffer.turns.restore(
                self._epoch,
                cast("int", turns["drawn"]),
                turns["exhausted"],
                cast("Sequence[list[int]]", turns["datasets"]),
            )
            drawn, waiting = cast("int", buffer["drawn"]), cast("Sequence[Sequence[int]]", buffer["waiting"])
            self._buffer.restore(self._epoch, drawn, waiting)
        self.skipped.clear()
        self.skipped.update(cast("Mapping[Reason, int]", state["skipped"]))
        self._num_told = cast("int", state["told"])

    def _pop(self) -> Entry | None:
        """Return the next row of the whole stream."""
        while True:
            if not self._is_started:
                if self._epoch == self._num_epochs:
                    return None
                self._buffer.start(self._epoch)
                self._is_started = True
            if (entry := self._buffer.pop()) is not None:
                self._read += 1
                return entry
            self._epoch, self._is_started = self._epoch + 1, False
            if (total := self.skipped.total()) > self._num_told:
                self._num_told = total
                counts = describe_counts(self.skipped)
                logger.warning("after %d passes, %d rows were bad and left out: %s", self._epoch, total, counts)

    def _to_row(self, entry: Entry) -> ChatRow:
        if entry.row is not None:
            return entry.row
        dataset = self._buffer.turns.datasets[entry.place.dataset]
        try:
            return dataset.reading.to_row(entry.scanned.get())
        except BadRow as error:
            raise BadRow(error.reason, error.problem, error.origin, REMEDY) from error.__cause__


def open_stream(
    specs: Iterable[str | DatasetSpec],
    args: DataArgs,
    *,
    answers: Answers = "required",
    purpose: Purpose = "training",
    side: Side = "all",
    share: Share | None = None,
    num_epochs: int | None = 1,
    use_hf: bool = False,
) -> RowStream:
    """Open datasets as a stream: one after the other or mixed by weight, then shuffled in a buffer.

    `name#500` is the first 500 rows, which are read again from the start where there are fewer. A bad row raises
    `BadRow` when its turn comes, or is left out and counted.

    Args:
        specs: one or several, as a user spells them or parsed. `args.dataset` and `args.val_dataset` are not read.
        args: what they say of columns, media, bad rows, seeds, shuffling, mixing and splitting.
        answers: 'required' takes rows that end with an answer; 'optional' those that end with a question too.
        purpose: what the rows are for.
        side: which rows are read, where `args.split_dataset_ratio` splits them by chance: of all rows, about this
            share.
        share: which of them this reader takes; None is all.
        num_epochs: passes over the data, each in another order; None never ends.
        use_hf: where ids without a hub, and known names, are fetched: from Hugging Face, otherwise from ModelScope.

    Raises:
        InvalidArgument: an option's value is out of its range.
        InvalidSpec, DatasetNotFound, UnsupportedDataset, MissingDependency: as `load_rows`.
        EmptyDataset: a dataset has no file; or, when rows are read, no row that can be used.
        UnreadableDataset: when rows are read, a file cannot be.
    """
    parsed = [
        parse_spec(spec) if isinstance(spec, str) else spec for spec in ([specs] if isinstance(specs, str) else specs)
    ]
    split = _to_split(args, side)
    if args.shuffle_buffer_size < 1:
        raise InvalidArgument(f"shuffle_buffer_size is {args.shuffle_buffer_size!r}; expected at least 1")
    if num_epochs is not None and num_epochs < 0:
        raise InvalidArgument(f"num_epochs is {num_epochs!r}; expected at least 0, or None for no end")
    weights = args.interleave_prob if purpose == "training" else []
    if weights:
        check_weights(weights, len(parsed))
    found = [find_dataset(spec, use_hf=use_hf) for spec in parsed]
    if empty := [str(spec) for spec, dataset in zip(parsed, found, strict=True) if not dataset.files]:
        raise EmptyDataset(f"dataset {empty[0]!r} has no file; expected one or more")
    shuffle = args.dataset_shuffle if purpose == "training" else args.val_dataset_shuffle
    skipped: Counter[Reason] = Counter()
    datasets = [
        StreamedDataset(
            number=number,
            name=str(spec),
            files=dataset.files,
            reading=make_reading(dataset.card, args, answers),
            count=spec.count,
            split=split,
            skips=args.on_bad_row == "skip",
            skipped=skipped,
        )
        for number, (spec, dataset) in enumerate(zip(parsed, found, strict=True))
    ]
    turns = Turns(datasets, weights, ends_with_first=args.stopping_strategy == "first_exhausted", seed=args.data_seed)
    buffer = ShuffleBuffer(turns, size=args.shuffle_buffer_size if shuffle else 1, seed=args.data_seed)
    return RowStream(
        buffer,
        share=share or Share(),
        num_epochs=num_epochs,
        skipped=skipped,
        identity=_identify(parsed, found, args, [answers, purpose, side]),
    )


def _to_split(args: DataArgs, side: Side) -> Split:
    check_ratio(args.split_dataset_ratio)
    if side == "all":
        return Split()
    if side == "validation" and args.split_dataset_ratio == 0:
        raise InvalidArgument("split_dataset_ratio is 0, which sets no row aside for validation; expected more than 0")
    return Split(args.split_dataset_ratio, side == "validation", args.data_seed)


def _identify(specs: Sequence[DatasetSpec], found: Sequence[FoundDataset], args: DataArgs, uses: Sequence[str]) -> str:
    """Return a digest of all that decides a stream's order; a file counts by name and size, not by its folder."""
    data = [
        [spec.count, dataset.card and dataset.card.name, [(path.name, path.stat().st_size) for path in dataset.files]]
        for spec, dataset in zip(specs, found, strict=True)
    ]
    options = [
        sorted(args.columns.items()), args.on_bad_row, args.data_seed, args.dataset_shuffle, args.val_dataset_shuffle,
        args.shuffle_buffer_size, args.interleave_prob, args.stopping_strategy, args.split_dataset_ratio, *uses,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps([data, options], sort_keys=True).encode()).hexdigest()
