"""Checking the rows of files, in one process or several, before they are used."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from .args import DataArgs
from .bad_rows import REMEDY, BadRows
from .errors import BadRow, EmptyDataset, InvalidArgument, Reason, UnreadableDataset
from .row_sequence import OpenFile, Reading
from .source import find_source

logger = logging.getLogger(__name__)

# A process that only checks fewer rows than these takes longer to start than to work.
_PART: Final = 20_000


@dataclass
class _Checked:
    """What a part of a file turned out to be: bad rows, numbers of good ones, renamed columns that it has."""

    bad: BadRows = field(default_factory=BadRows)
    good: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    columns: set[str] = field(default_factory=set)


def open_file(path: Path, reading: Reading) -> OpenFile:
    """Open a file of a dataset, and find its rows.

    Raises:
        UnreadableDataset: it cannot be opened, or is broken as a whole.
        EmptyDataset: it has no rows.
    """
    source = find_source(path)
    try:
        table = source.open_rows(path)
    except OSError as error:
        raise to_unreadable(path, error) from error
    if len(table) == 0:
        raise EmptyDataset(f"dataset {str(path)!r} is empty; expected one row or more")
    return OpenFile(path, table, reading)


def to_unreadable(path: Path, error: OSError) -> UnreadableDataset:
    """Return the error that names the dataset."""
    if isinstance(error, UnreadableDataset):
        return error
    return UnreadableDataset(f"dataset {str(path)!r} cannot be read: {error.strerror or error}")


def check_files(
    files: Sequence[OpenFile], args: DataArgs, *, checked_rows: int
) -> tuple[list[npt.NDArray[np.int64]], Counter[Reason]]:
    """Check the rows of files.

    Args:
        files: what is checked.
        args: on_bad_row, dataset_num_proc and columns are read.
        checked_rows: how many rows each process checks where a bad one is an error; the rest counts as good for now.

    Returns:
        For each file the numbers of its good rows, where the rows of all files are counted through; and how many rows
        are bad, by reason.

    Raises:
        BadRow: one is bad, and `args.on_bad_row` is 'raise'.
        EmptyDataset: all rows of a file are bad.
    """
    if args.dataset_num_proc < 1:
        raise InvalidArgument(f"dataset_num_proc is {args.dataset_num_proc!r}; expected at least 1")
    num_rows = sum(len(file.table) for file in files)
    limit = checked_rows * args.dataset_num_proc
    is_sample = args.on_bad_row == "raise" and num_rows > limit
    share = limit / num_rows if is_sample else 1.0
    good, counts, seen, first = [], Counter[Reason](), set[str](), 0
    with _workers(files, args.dataset_num_proc, num_rows) as workers:
        for index, file in enumerate(files):
            checked = _check_file(files, index, share, workers)
            if checked.bad.first is not None and args.on_bad_row == "raise":
                if is_sample:
                    # It is over now, so that there is time to count them all.
                    checked = _check_file(files, index, 1.0, workers)
                _raise(checked.bad)
            if checked.bad.first is not None and len(checked.good) == 0:
                raise EmptyDataset(
                    f"dataset {str(file.path)!r} has no row that can be used: all {checked.bad.counts.total()} are "
                    f"bad. The first: {checked.bad.first}. {checked.bad.describe_others()}"
                )
            good.append((np.arange(len(file.table)) if is_sample else checked.good) + first)
            counts += checked.bad.counts
            seen |= checked.columns
            first += len(file.table)
    if is_sample:
        logger.info("%d of %d rows are checked, the others will be when they are read", limit, num_rows)
    if files and (unused := sorted(args.columns.keys() - seen)):
        which = "which no row has" if not is_sample else f"which none of {limit} rows has"
        logger.warning("the option columns renames %s, %s", ", ".join(map(repr, unused)), which)
    return good, counts


def _raise(bad: BadRows) -> None:
    assert bad.first is not None, "there is a first bad row"
    first = bad.first
    others = f"{bad.describe_others()}. {REMEDY}"
    raise BadRow(first.reason, first.problem, first.origin, others) from first.__cause__


# What a worker process checks. A file is no argument of a task: it would be opened anew for each.
_held: list[OpenFile] = []


def _hold(files: Sequence[OpenFile]) -> None:
    _held[:] = files


@contextmanager
def _workers(files: Sequence[OpenFile], num_proc: int, num_rows: int) -> Iterator[Executor | None]:
    if num_proc == 1 or num_rows <= _PART:
        yield None
        return
    # A forked process has the files open already; others open them once.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(num_proc, mp_context=context, initializer=_hold, initargs=(files,)) as workers:
        yield workers


def _check_file(files: Sequence[OpenFile], index: int, share: float, workers: Executor | None) -> _Checked:
    """Check this share of a file's rows, in stretches that are spread evenly."""
    num_rows = len(files[index].table)
    starts = range(0, num_rows, _PART)
    ends = [min(start + _PART, num_rows) for start in starts]
    stops = [start + max(int(share * (end - start)), 1) for start, end in zip(starts, ends, strict=True)]
    if workers is None:
        results = [_check_part(files[index], start, stop) for start, stop in zip(starts, stops, strict=True)]
    else:
        results = list(workers.map(_check_held, [index] * len(starts), starts, stops))
    whole = _Checked()
    for result in results:
        whole.bad.merge(result.bad)
        whole.columns |= result.columns
    whole.good = np.concatenate([result.good for result in results])
    return whole


def _check_held(index: int, start: int, stop: int) -> _Checked:
    return _check_part(_held[index], start, stop)


def _check_part(file: OpenFile, start: int, stop: int) -> _Checked:
    checked = _Checked()
    good = []
    renamed = file.reading.columns.keys()
    try:
        for number, raw in enumerate(file.table.read(start, stop), start):
            if not isinstance(raw, BadRow):
                checked.columns.update(renamed & raw.columns.keys())
            try:
                file.reading.to_row(raw)
            except BadRow as error:
                checked.bad.add(error)
            else:
                good.append(number)
    except OSError as error:
        raise to_unreadable(file.path, error) from error
    checked.good = np.array(good, dtype=np.int64)
    return checked
