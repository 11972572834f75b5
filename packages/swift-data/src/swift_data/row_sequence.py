"""Rows that are read when they are needed: a sequence of numbers, and the files that they are numbers of.

A million rows that were all made would fill gigabytes, and take longer than a user likes to wait. Their numbers take
8 MB. A row is made anew each time that it is asked for; whoever needs one twice keeps it.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from .args import DataArgs
from .bad_rows import REMEDY
from .chat_row import ChatRow, to_row
from .column_format import Answers
from .dataset_card import DatasetCard
from .errors import BadRow, InvalidArgument
from .media_paths import resolve_media
from .source import RawRow, RowTable

# Rows that are read at once where they follow each other, which tables in columns like.
_RUN: Final = 256
_DIGESTED: Final = 1 << 20


@dataclass(frozen=True)
class Reading:
    """How raw rows become rows.

    Attributes:
        card: the known dataset that they belong to, which converts them first.
        columns: their names to ours.
        answers: whether a row must end with an answer.
        media_root: where relative paths of media start; None is the file's folder.
        model_name: what stands for the model's name in the texts of self_cognition; () leaves all texts as they are.
        model_author: the same for its maker's.
    """

    card: DatasetCard | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    answers: Answers = "required"
    media_root: str | None = None
    model_name: tuple[str, ...] = ()
    model_author: tuple[str, ...] = ()

    def to_row(self, raw: RawRow | BadRow) -> ChatRow:
        """Make a row.

        Raises:
            BadRow: it cannot be used.
        """
        if isinstance(raw, BadRow):
            raise raw
        columns = raw.columns
        if self.card is not None:
            try:
                columns = self.card.convert(columns)
            except BadRow as error:
                raise BadRow(error.reason, error.problem, raw.origin) from error.__cause__
        row = to_row(columns, origin=raw.origin, columns=self.columns, answers=self.answers)
        if self.model_name:
            from .datasets.self_cognition import fill_identity

            row = fill_identity(row, self.model_name, self.model_author)
        return resolve_media(row, media_root=self.media_root)


def make_reading(card: DatasetCard | None, args: DataArgs, answers: Answers) -> Reading:
    """Return how the rows of a dataset are read.

    Raises:
        InvalidArgument: the model's name is needed and not given, or given without its maker's.
    """
    if bool(args.model_name) != bool(args.model_author) or len(args.model_name) > 2 or len(args.model_author) > 2:
        raise InvalidArgument(
            f"model_name is {args.model_name!r} and model_author {args.model_author!r}; expected one name each, or "
            "two: in Chinese, and in other languages"
        )
    if card is not None and card.name == "self_cognition" and not args.model_name:
        raise InvalidArgument(
            "dataset 'self_cognition' teaches a model who it is; set model_name and model_author to what it should say"
        )
    return Reading(
        card=card,
        columns=args.columns,
        answers=answers,
        media_root=args.media_root,
        model_name=tuple(args.model_name),
        model_author=tuple(args.model_author),
    )


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A file of a dataset, and how its rows are read."""

    path: Path
    table: RowTable
    reading: Reading
    _version: tuple[int, ...] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_version", _version_of(self.path))

    def digest(self) -> str | None:
        """Return a digest of the file's bytes; None where it is not the file any more that was opened."""
        digest = hashlib.blake2b(digest_size=20)
        try:
            with self.path.open("rb", buffering=0) as file:
                while part := file.read(_DIGESTED):
                    digest.update(part)
        except OSError:
            return None
        is_same = self._version is not None and _version_of(self.path) == self._version
        return digest.hexdigest() if is_same else None


def _version_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Rows(Sequence[ChatRow]):
    """Rows of some files, in any order, also several times.

    Two are equal where their rows are, also to a list of rows. A row that turns out to be bad raises `BadRow`.

    Args:
        files: what they are rows of.
        numbers: int64 (N,) which rows: the files' rows are counted through from 0, bad ones included.
    """

    __hash__ = None  # type: ignore[assignment]  # as a list's: equal to what has none

    def __init__(self, files: Sequence[OpenFile], numbers: npt.NDArray[np.int64]) -> None:
        self.files = tuple(files)
        self.numbers = numbers
        self._ends = list(itertools.accumulate(len(file.table) for file in self.files))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> ChatRow: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> ChatRow | Rows:
        if isinstance(index, slice):
            return Rows(self.files, self.numbers[index])
        number = int(self.numbers[index])
        return next(self._read(number, number + 1))

    def __iter__(self) -> Iterator[ChatRow]:
        for start in range(0, len(self.numbers), _RUN):
            numbers = self.numbers[start : start + _RUN]
            # Cut where a number does not follow the one before it.
            for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
                yield from self._read(int(run[0]), int(run[-1]) + 1)

    def __add__(self, other: Sequence[ChatRow]) -> list[ChatRow]:
        return [*self, *other]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {', '.join(str(file.path) for file in self.files) or 'no file'}>"

    def select(self, positions: npt.NDArray[np.int64]) -> Rows:
        """Return the rows at these places, in this order."""
        return Rows(self.files, self.numbers[positions])

    def _read(self, start: int, stop: int) -> Iterator[ChatRow]:
        while start < stop:
            index = bisect.bisect_right(self._ends, start)
            file, end = self.files[index], min(stop, self._ends[index])
            first = self._ends[index] - len(file.table)
            for raw in file.table.read(start - first, end - first):
                try:
                    row = file.reading.to_row(raw)
                except BadRow as error:
                    raise BadRow(error.reason, error.problem, error.origin, REMEDY) from error.__cause__
                yield row
            start = end
