"""Rows: how datasets are loaded, split and put in order.

No row is lost in silence. A bad one stops the loading, with its file, line and field named and its fellows counted, or
is left out and counted by reason. Order depends on the seed and the number of rows only.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .args import DataArgs
from .chat_row import ChatRow as ChatRow
from .chat_row import to_row as to_row
from .column_format import Answers
from .errors import BadRow, EmptyDataset, InvalidArgument, Reason, UnreadableDataset
from .lookup import find_files
from .source import Origin as Origin
from .source import find_source
from .spec import DatasetSpec, parse_spec

logger = logging.getLogger(__name__)

# What is drawn once has a third number, which keeps it apart from the epochs' orders, drawn from (seed, epoch).
_SAMPLE_STREAM = (0, 1)
_SPLIT_STREAM = (0, 2)

# How many line numbers a message lists for each reason.
_SHOWN_LINES = 3


@dataclass(frozen=True, kw_only=True)
class LoadedRows:
    """What `load_rows` found.

    Attributes:
        rows: in the order of the specs and files; counts are applied.
        skipped: how many bad rows were left out, by reason; empty with on_bad_row 'raise'.
    """

    rows: list[ChatRow]
    skipped: dict[Reason, int] = field(default_factory=dict)


def load_rows(specs: Iterable[str | DatasetSpec], args: DataArgs, *, answers: Answers = "required") -> LoadedRows:
    """Load datasets, one after the other.

    Every row of a dataset is checked, also where only some are taken. `name#500` of more rows takes a sample, in file
    order, that depends on `args.data_seed` only; with `args.dataset_shuffle` off, it takes the first 500. `name#500` of
    fewer rows takes them all as often as they fit, and the remainder as before.

    Args:
        specs: one or several, as a user spells them or parsed. `args.dataset` and `args.val_dataset` are not read.
        args: columns, on_bad_row, data_seed and dataset_shuffle are.
        answers: 'required' takes rows that end with an answer; 'optional' those that end with a question too.

    Raises:
        BadRow: a row cannot be used, and `args.on_bad_row` is 'raise'.
        EmptyDataset: a file is empty, or all its rows are bad.
        InvalidSpec: a spec cannot be read, or names a subset that does not exist.
        DatasetNotFound: there is no such file or known dataset.
        UnsupportedDataset: it is a folder, on a hub, or a file of an unknown type.
        UnreadableDataset: its file cannot be opened, or is broken as a whole.
    """
    rows: list[ChatRow] = []
    skipped: Counter[Reason] = Counter()
    seen_columns: set[str] = set()
    # A text is a sequence of texts too, its letters.
    for spec in [specs] if isinstance(specs, str) else specs:
        parsed = parse_spec(spec) if isinstance(spec, str) else spec
        found: list[ChatRow] = []
        for path in find_files(parsed):
            good, bad = _load_file(path, args, answers, seen_columns)
            _check_file(path, good, bad, args)
            found += good
            skipped.update(bad.counts)
        rows += _take(found, parsed.count, args)
    if unused := sorted(args.columns.keys() - seen_columns):
        logger.warning("the option columns renames %s, which no row has", ", ".join(map(repr, unused)))
    return LoadedRows(rows=rows, skipped=dict(skipped))


def split_rows(rows: Sequence[ChatRow], ratio: float, seed: int) -> tuple[list[ChatRow], list[ChatRow]]:
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
    if not 0 <= ratio < 1:
        raise InvalidArgument(f"split_dataset_ratio is {ratio!r}; expected at least 0 and less than 1")
    if ratio == 0:
        return list(rows), []
    origins = list(dict.fromkeys(row.origin for row in rows))
    if len(origins) < 2:
        raise InvalidArgument(
            f"split_dataset_ratio is {ratio!r}, which needs two different rows or more; there are {len(origins)}"
        )
    num_aside = max(int(len(origins) * ratio), 1)
    chosen = _generator(seed, *_SPLIT_STREAM).permutation(len(origins))[:num_aside]
    aside = {origins[index] for index in chosen}
    first = {row.origin: row for row in reversed(rows)}
    kept = [row for row in rows if row.origin not in aside]
    return kept, [first[origin] for origin in origins if origin in aside]


def order(num_rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return an epoch's order: a permutation of range(num_rows) that depends on these three numbers only.

    Raises:
        InvalidArgument: one of them is negative.
    """
    if num_rows < 0:
        raise InvalidArgument(f"num_rows is {num_rows!r}; expected at least 0")
    return _generator(seed, epoch).permutation(num_rows).astype(np.int64, copy=False)


class _BadRows:
    """The bad rows of one file: the first whole, of the others numbers and lines."""

    def __init__(self) -> None:
        self.first: BadRow | None = None
        self.counts: Counter[Reason] = Counter()
        self.lines: dict[Reason, list[int]] = {}

    def add(self, error: BadRow) -> None:
        assert error.origin is not None, "sources and to_row give bad rows an origin"
        self.counts[error.reason] += 1
        lines = self.lines.setdefault(error.reason, [])
        if self.first is None:
            self.first = error
        elif len(lines) < _SHOWN_LINES:
            lines.append(error.origin.line)

    def describe_others(self) -> str:
        """Say how many more there are, by reason, and where."""
        assert self.first is not None, "there is a first bad row"
        others = self.counts - Counter([self.first.reason])
        total = others.total()
        if total == 0:
            return "No other row of this file is bad"
        kinds = [f"{count} {reason!r} ({self._show_lines(reason, count)})" for reason, count in others.most_common()]
        return f"{total} more row{' of this file is' if total == 1 else 's of this file are'} bad: {', '.join(kinds)}"

    def _show_lines(self, reason: Reason, count: int) -> str:
        lines = self.lines[reason]
        shown = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
        return f"line {shown}" if count == 1 else f"lines {shown}"


def _load_file(path: Path, args: DataArgs, answers: Answers, seen_columns: set[str]) -> tuple[list[ChatRow], _BadRows]:
    rows: list[ChatRow] = []
    bad = _BadRows()
    try:
        for raw in find_source(path).read(path):
            if isinstance(raw, BadRow):
                bad.add(raw)
                continue
            seen_columns.update(args.columns.keys() & raw.columns.keys())
            try:
                rows.append(to_row(raw.columns, origin=raw.origin, columns=args.columns, answers=answers))
            except BadRow as error:
                bad.add(error)
    except UnreadableDataset:
        raise
    except OSError as error:
        raise UnreadableDataset(f"dataset {str(path)!r} cannot be read: {error.strerror or error}") from error
    return rows, bad


def _check_file(path: Path, rows: Sequence[ChatRow], bad: _BadRows, args: DataArgs) -> None:
    if bad.first is not None and args.on_bad_row != "skip":
        remedy = "Correct the file, or set on_bad_row to 'skip' to leave such rows out and count them"
        raise BadRow(
            bad.first.reason, bad.first.problem, bad.first.origin, f"{bad.describe_others()}. {remedy}"
        ) from bad.first.__cause__
    if bad.first is not None and not rows:
        total = bad.counts.total()
        raise EmptyDataset(
            f"dataset {str(path)!r} has no row that can be used: all {total} are bad. The first: {bad.first}. "
            f"{bad.describe_others()}"
        )
    if not rows:
        raise EmptyDataset(f"dataset {str(path)!r} is empty; expected one row or more")


def _take(rows: list[ChatRow], count: int | None, args: DataArgs) -> list[ChatRow]:
    if count is None:
        return rows
    times, rest = divmod(count, len(rows))
    chosen = np.arange(len(rows))
    if args.dataset_shuffle:
        chosen = _generator(args.data_seed, *_SAMPLE_STREAM).permutation(len(rows))
    return rows * times + [rows[index] for index in sorted(chosen[:rest])]


def _generator(seed: int, *stream: int) -> np.random.Generator:
    if seed < 0 or min(stream) < 0:
        raise InvalidArgument(f"seed is {seed!r} and epoch {stream[0]!r}; expected both to be at least 0")
    return np.random.default_rng([seed, *stream])
