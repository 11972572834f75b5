"""Rows: how datasets are loaded, mixed and split.

No row is lost in silence. A bad one stops the loading, with its file, line and field named and its fellows counted, or
is left out and counted by reason. Order depends on the seed and the number of rows only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from .args import DataArgs
from .bad_rows import describe_counts
from .chat_row import ChatRow as ChatRow
from .chat_row import to_row as to_row
from .column_format import Answers
from .compression import data_suffix
from .errors import EmptyDataset, InvalidArgument, Reason
from .lookup import find_dataset
from .mixing import check_weights, mix
from .row_checks import check_files, open_file
from .row_sequence import OpenFile, Rows, make_reading
from .sampling import MIX, SHUFFLE_VALIDATION, SPLIT, generator, take
from .sampling import order as order
from .source import Origin as Origin
from .spec import DatasetSpec, parse_spec

logger = logging.getLogger(__name__)

Purpose = Literal["training", "validation"]
"""What rows are for: training mixes them by `interleave_prob` and looks at `dataset_shuffle`; validation looks at
`val_dataset_shuffle`."""

# One process checks them in a second (rows of 70 bytes, one core of a Xeon that does nothing else).
CHECKED_ROWS: Final = 50_000
"""How many rows each process checks at once where bad rows stop the loading; others are checked when they are read."""


@dataclass(frozen=True, kw_only=True)
class LoadedRows:
    """What `load_rows` found.

    Attributes:
        rows: in the order of the specs and files, or mixed; counts are applied. They are read from their files when
            they are asked for.
        skipped: how many bad rows were left out, by reason; empty with on_bad_row 'raise'.
    """

    rows: Sequence[ChatRow]
    skipped: dict[Reason, int] = field(default_factory=dict)


def load_rows(
    specs: Iterable[str | DatasetSpec],
    args: DataArgs,
    *,
    answers: Answers = "required",
    purpose: Purpose = "training",
    use_hf: bool = False,
) -> LoadedRows:
    """Load datasets, one after the other or mixed by weight.

    Every row is checked, also where only some are taken. Where there are more than `CHECKED_ROWS` and `args.on_bad_row`
    is 'raise', that many are checked now, spread evenly, and the others when they are read. `name#500` of more rows
    takes a sample, in file order, that depends on `args.data_seed` only; without shuffling, it takes the first 500.
    `name#500` of fewer rows takes them all as often as they fit, and the remainder as before.

    Args:
        specs: one or several, as a user spells them or parsed. `args.dataset` and `args.val_dataset` are not read.
        args: what they say of columns, media, bad rows, seeds, shuffling and mixing.
        answers: 'required' takes rows that end with an answer; 'optional' those that end with a question too.
        purpose: what the rows are for.
        use_hf: where ids without a hub, and known names, are fetched: from Hugging Face, otherwise from ModelScope.

    Raises:
        BadRow: a row cannot be used, and `args.on_bad_row` is 'raise'. Reading the rows may raise it too.
        EmptyDataset: a file is empty, or all its rows are bad.
        InvalidArgument: an option's value is out of its range.
        InvalidSpec: a spec cannot be read, or names a subset that does not exist.
        DatasetNotFound: there is no such file, known dataset or id.
        UnsupportedDataset: it is a file of an unknown type, or needs code of its own to be loaded.
        UnreadableDataset: its file cannot be opened, or is broken as a whole.
        MissingDependency: a package is needed for its kind of file or its hub (swift_templates.errors).
    """
    if args.streaming:
        raise InvalidArgument("streaming is on, but whole datasets are loaded here; leave it off, or call open_stream")
    # A text is a sequence of texts too, its letters.
    parsed = [
        parse_spec(spec) if isinstance(spec, str) else spec for spec in ([specs] if isinstance(specs, str) else specs)
    ]
    is_mixed = purpose == "training" and bool(args.interleave_prob)
    if is_mixed:
        check_weights(args.interleave_prob, len(parsed))
    files, datasets = _open(parsed, args, answers, use_hf)
    good, skipped = check_files(files, args, checked_rows=CHECKED_ROWS)
    if len(files) > 1:
        for file, numbers in zip(files, good, strict=True):
            logger.info("%d of %d rows of %s can be used", len(numbers), len(file.table), file.path)
    if skipped:
        logger.warning(
            "%d of %d rows are bad and left out: %s",
            skipped.total(),
            sum(len(file.table) for file in files),
            describe_counts(skipped),
        )
    shuffle = args.dataset_shuffle if purpose == "training" else args.val_dataset_shuffle
    taken = [
        take(np.concatenate([good[index] for index in dataset]), spec.count, args.data_seed, shuffle=shuffle)
        for spec, dataset in zip(parsed, datasets, strict=True)
    ]
    if is_mixed and taken:
        numbers = _mix(taken, parsed, args)
    else:
        numbers = np.concatenate(taken) if taken else np.zeros(0, dtype=np.int64)
    if purpose == "validation" and shuffle:
        numbers = numbers[generator(args.data_seed, *SHUFFLE_VALIDATION).permutation(len(numbers))]
    return LoadedRows(rows=Rows(files, numbers), skipped=dict(skipped))


def split_rows(rows: Sequence[ChatRow], ratio: float, seed: int) -> tuple[Sequence[ChatRow], Sequence[ChatRow]]:
    """Set some rows aside for validation.

    A row that is there twice (`a.jsonl#1000` of 600) falls on one side with all its copies, and is validated once.

    Args:
        rows: what is split.
        ratio: share of the different rows to set aside, one row at least; 0 sets none aside.
        seed: decides which.

    Returns:
        The rows to train on and those set aside, both in their old order.

    Raises:
        InvalidArgument: the ratio is not in [0, 1), or would leave no row to train on.
    """
    check_ratio(ratio)
    if ratio == 0:
        return rows, []
    identities = rows.numbers if isinstance(rows, Rows) else _number_origins(rows)
    different, first, which = np.unique(identities, return_index=True, return_inverse=True)
    if len(different) < 2:
        raise InvalidArgument(
            f"split_dataset_ratio is {ratio!r}, which needs two different rows or more; there are {len(different)}"
        )
    num_aside = max(int(len(different) * ratio), 1)
    # Numbered by where they come first.
    chosen = np.argsort(first, kind="stable")[generator(seed, *SPLIT).permutation(len(different))[:num_aside]]
    kept = np.flatnonzero(~np.isin(which, chosen))
    aside = np.sort(first[chosen])
    if isinstance(rows, Rows):
        return rows.select(kept), rows.select(aside)
    return [rows[int(index)] for index in kept], [rows[int(index)] for index in aside]


def check_ratio(ratio: float) -> None:
    """Raise InvalidArgument unless a share can be set aside for validation."""
    if not 0 <= ratio < 1:
        raise InvalidArgument(f"split_dataset_ratio is {ratio!r}; expected at least 0 and less than 1")


def _open(
    specs: Sequence[DatasetSpec], args: DataArgs, answers: Answers, use_hf: bool
) -> tuple[list[OpenFile], list[list[int]]]:
    """Open the files of all datasets, each once, and say which files each dataset has."""
    files: list[OpenFile] = []
    known: dict[object, int] = {}
    datasets = []
    for spec in specs:
        found = find_dataset(spec, use_hf=use_hf)
        reading = make_reading(found.card, args, answers)
        indices = []
        for path in found.files:
            # Copies of a row must be known as such, however the file's path is written.
            key = (os.path.realpath(path), data_suffix(path.name), found.card and found.card.name)
            if key not in known:
                known[key] = len(files)
                files.append(open_file(path, reading))
            indices.append(known[key])
        if not indices:
            raise EmptyDataset(f"dataset {str(spec)!r} has no file; expected one or more")
        datasets.append(indices)
    return files, datasets


def _mix(taken: Sequence[npt.NDArray[np.int64]], specs: Sequence[DatasetSpec], args: DataArgs) -> npt.NDArray[np.int64]:
    datasets, rows = mix([len(each) for each in taken], args.interleave_prob, args.stopping_strategy, args.data_seed)
    mixed = np.empty(len(rows), dtype=np.int64)
    for index, (spec, numbers) in enumerate(zip(specs, taken, strict=True)):
        if args.dataset_shuffle:
            # A mixture that ends early should not leave out a file's end.
            numbers = numbers[generator(args.data_seed, *MIX, index).permutation(len(numbers))]
        mine = datasets == index
        mixed[mine] = numbers[rows[mine]]
        if (num_unused := len(numbers) - len(np.unique(rows[mine]))) > 0:
            logger.warning(
                "the mixture ends before dataset %r does: %d of its %d rows are not used (stopping_strategy %s)",
                str(spec),
                num_unused,
                len(numbers),
                args.stopping_strategy,
            )
    return mixed


def _number_origins(rows: Sequence[ChatRow]) -> npt.NDArray[np.int64]:
    numbers: dict[Origin, int] = {}
    return np.array([numbers.setdefault(row.origin, len(numbers)) for row in rows], dtype=np.int64)
