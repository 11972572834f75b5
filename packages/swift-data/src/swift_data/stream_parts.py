"""The parts of a stream: one dataset read pass by pass, several of them in turn or mixed, and the buffer that shuffles.

Each knows its place in a few numbers: where its next row begins, and how often it has drawn. All of it is the same for
every process that reads the stream.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .chat_row import ChatRow
from .errors import BadRow, EmptyDataset, Reason, UnreadableDataset
from .mixing import Chooser
from .row_checks import to_unreadable
from .row_sequence import Reading
from .sampling import SPLIT, draw_below, draw_share, make_key
from .source import START, Mark, Scanned, find_source


class Place(NamedTuple):
    """Where a row of a stream stands: the numbers of its dataset and file, and its mark."""

    dataset: int
    file: int
    offset: int
    line: int


@dataclass
class Entry:
    """A row of a stream, read or not yet."""

    place: Place
    scanned: Scanned
    row: ChatRow | None = None


@dataclass(frozen=True)
class Split:
    """Which rows are read: those for validation are drawn by where they stand, so that copies stay together.

    Attributes:
        ratio: share of the rows that is set aside; 0 reads all of them.
        is_aside: whether those are read, or the others.
        seed: decides which.
    """

    ratio: float = 0.0
    is_aside: bool = False
    seed: int = 0

    def key(self, path: Path) -> int:
        """Return the key of a file's draws; a file is the same wherever its folder is."""
        name = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:8], "big")
        return make_key(self.seed, *SPLIT, name)

    def takes(self, key: int, offset: int) -> bool:
        """Say whether the row at this offset of a file is read."""
        return self.ratio == 0 or (draw_share(key, offset) < self.ratio) == self.is_aside


@dataclass
class StreamedDataset:
    """One dataset's rows, file by file, until its number of rows is reached or its files end.

    `next` holds the row that comes next, so that it is known when there is none.

    Attributes:
        number: which dataset of the stream it is.
        name: how messages call it.
        files: its files.
        reading: how rows are read.
        count: how many rows one pass has; None is as many as there are. More than there are reads the files again.
        split: which rows are read.
        skips: whether bad rows are left out; they are counted in `skipped`, in the first pass that meets them.
        skipped: the stream's counts.
    """

    number: int
    name: str
    files: Sequence[Path]
    reading: Reading
    count: int | None
    split: Split
    skips: bool
    skipped: Counter[Reason]
    next: Entry | None = None
    taken: int = 0
    _found_in_pass: int = 0
    _file: int = 0
    _file_is_empty: bool = True
    _key: int = 0
    _counted: tuple[int, int] = (-1, -1)
    """File and offset up to which bad rows are counted already."""
    _rows: Iterator[Scanned] = field(default_factory=lambda: iter(()))

    def start(self) -> None:
        """Begin a pass."""
        self.taken = 0
        self._open(0, START)
        self._found_in_pass = 0
        self._advance()
        if self.next is None:
            raise EmptyDataset(
                f"dataset {self.name!r} has no row on this side of the split by split_dataset_ratio "
                f"{self.split.ratio!r}; give it more rows, or validate on a val_dataset"
            )

    def pop(self) -> Entry:
        """Return the next row and look for the one after it."""
        entry = self.next
        assert entry is not None, "whoever takes a row has looked whether there is one"
        self.taken += 1
        self._advance()
        return entry

    def state(self) -> list[int]:
        """Return up to where bad rows are counted, and where the next row is, if there is one."""
        if self.next is None:
            return [*self._counted]
        place = self.next.place
        return [*self._counted, place.file, place.offset, place.line, self.taken, self._found_in_pass]

    def restore(self, state: list[int]) -> None:
        """Go on where a state was taken."""
        self._counted = state[0], state[1]
        if len(state) == 2:
            self.next = None
            return
        file, offset, line, self.taken, found = state[2:]
        self._open(file, Mark(offset, line))
        # The next row is found once more.
        self._found_in_pass = found - 1
        self._file_is_empty = False
        self._advance()
        if self.next is None or self.next.place[1:] != (file, offset, line):
            raise to_changed(self.files[file], line)

    def read(self, places: Sequence[Place]) -> Iterator[Entry]:
        """Yield rows that stand at these places of this dataset again, file by file."""
        for file in sorted({place.file for place in places}):
            path = self.files[file]
            marks = sorted(Mark(place.offset, place.line) for place in places if place.file == file)
            try:
                for found in find_source(path).fetch(path, sorted(set(marks))):
                    place = Place(self.number, file, *found.mark)
                    yield Entry(place, found, self.reading.to_row(found.get()) if self.skips else None)
            except OSError as error:
                raise to_unreadable(path, error) from error

    def _open(self, file: int, mark: Mark) -> None:
        self._file = file
        self._file_is_empty = True
        self._key = self.split.key(self.files[file])
        self._rows = find_source(self.files[file]).scan(self.files[file], mark)

    def _advance(self) -> None:
        self.next = None
        while self.count is None or self.taken < self.count:
            if (scanned := self._scan()) is None:
                if not self._open_following():
                    return
                continue
            entry = Entry(Place(self.number, self._file, *scanned.mark), scanned)
            if self.skips and not self._read_row(entry):
                continue
            self._found_in_pass += 1
            if self.split.takes(self._key, scanned.mark.offset):
                self.next = entry
                return
            # The other side's rows count, so that both sides together are what was asked for.
            self.taken += 1

    def _scan(self) -> Scanned | None:
        path = self.files[self._file]
        try:
            scanned = next(self._rows, None)
        except OSError as error:
            raise to_unreadable(path, error) from error
        if scanned is not None:
            self._file_is_empty = False
        elif self._file_is_empty:
            raise EmptyDataset(f"dataset {str(path)!r} is empty; expected one row or more")
        return scanned

    def _open_following(self) -> bool:
        """Go on to the next file, or to the first again where more rows are wanted."""
        if self._file + 1 < len(self.files):
            self._open(self._file + 1, START)
            return True
        if self._found_in_pass == 0:
            raise EmptyDataset(f"dataset {self.name!r} has no row that can be used; expected one or more")
        # What is validated is validated once.
        if self.count is None or self.split.is_aside:
            return False
        self._open(0, START)
        self._found_in_pass = 0
        return True

    def _read_row(self, entry: Entry) -> bool:
        # All readers must agree on which rows there are, so each reads all.
        try:
            entry.row = self.reading.to_row(entry.scanned.get())
        except BadRow as error:
            place = entry.place.file, entry.place.offset
            if place > self._counted:
                self._counted = place
                self.skipped[error.reason] += 1
            return False
        return True


def to_changed(path: Path, line: int) -> UnreadableDataset:
    """Return the error for a saved position in a file that is not what it was."""
    return UnreadableDataset(f"{path}:{line}: the row that was here is gone; the file has changed")


class Turns:
    """Datasets one after the other, or mixed by weight.

    Args:
        datasets: what is read.
        weights: by which they are mixed; none of them has each read to its end before the next.
        ends_with_first: whether a mixture ends with the dataset that ends first; otherwise when each has ended once.
        seed: decides the mixture.
    """

    def __init__(
        self, datasets: Sequence[StreamedDataset], weights: Sequence[float], *, ends_with_first: bool, seed: int
    ) -> None:
        self.datasets = datasets
        self._weights = weights
        self._ends_with_first = ends_with_first
        self._seed = seed
        self._drawn = 0
        self._epoch = 0
        self._exhausted = [False] * len(datasets)
        self._chooser: Chooser | None = None

    def start(self, epoch: int) -> None:
        """Begin a pass over all of them."""
        self._set(epoch, 0, [False] * len(self.datasets))
        for dataset in self.datasets:
            dataset.start()

    def pop(self) -> Entry | None:
        """Return the next row; None at the end of the pass."""
        if self._chooser is None:
            return next((dataset.pop() for dataset in self.datasets if dataset.next is not None), None)
        if (any if self._ends_with_first else all)(self._exhausted):
            return None
        number = self._chooser.choose(self._drawn)
        self._drawn += 1
        dataset = self.datasets[number]
        entry = dataset.pop()
        if dataset.next is None:
            self._exhausted[number] = True
            dataset.start()
        return entry

    def state(self) -> dict[str, object]:
        """Return the place of each."""
        return {
            "drawn": self._drawn,
            "exhausted": [int(each) for each in self._exhausted],
            "datasets": [dataset.state() for dataset in self.datasets],
        }

    def restore(self, epoch: int, drawn: int, exhausted: Sequence[int], datasets: Sequence[list[int]]) -> None:
        """Go on where a state was taken."""
        self._set(epoch, drawn, [bool(each) for each in exhausted])
        for dataset, state in zip(self.datasets, datasets, strict=True):
            dataset.restore(state)

    def _set(self, epoch: int, drawn: int, exhausted: list[bool]) -> None:
        self._epoch, self._drawn, self._exhausted = epoch, drawn, exhausted
        if self._weights:
            self._chooser = Chooser(self._weights, len(self.datasets), self._seed, epoch)


class ShuffleBuffer:
    """Rows waiting in a buffer, from which one is drawn at a time.

    Args:
        turns: where they come from.
        size: how many wait; 1 keeps the order.
        seed: decides which is drawn.
    """

    def __init__(self, turns: Turns, *, size: int, seed: int) -> None:
        self.turns = turns
        self._size = size
        self._seed = seed
        self._key = 0
        self._waiting: list[Entry] = []
        self._drawn = 0

    def start(self, epoch: int) -> None:
        """Begin a pass."""
        self.turns.start(epoch)
        self._key, self._drawn, self._waiting = make_key(self._seed, epoch), 0, []

    def pop(self) -> Entry | None:
        """Return the next row; None at the end of the pass."""
        while len(self._waiting) < self._size and (entry := self.turns.pop()) is not None:
            self._waiting.append(entry)
        if not self._waiting:
            return None
        drawn = draw_below(len(self._waiting), self._key, self._drawn)
        self._drawn += 1
        last = self._waiting.pop()
        if drawn == len(self._waiting):
            return last
        entry, self._waiting[drawn] = self._waiting[drawn], last
        return entry

    def state(self) -> dict[str, object]:
        """Return the places of the rows that wait, and how many were drawn."""
        return {"drawn": self._drawn, "waiting": [list(entry.place) for entry in self._waiting]}

    def restore(self, epoch: int, drawn: int, waiting: Sequence[Sequence[int]]) -> None:
        """Go on where a state was taken; the rows that waited are read again, by their places."""
        places = [Place(*each) for each in waiting]
        found: dict[Place, Entry] = {}
        for number, dataset in enumerate(self.turns.datasets):
            mine = [place for place in places if place.dataset == number]
            found |= {entry.place: entry for entry in dataset.read(mine)}
        if missing := [place for place in places if place not in found]:
            raise to_changed(self.turns.datasets[missing[0].dataset].files[missing[0].file], missing[0].line)
        self._key, self._drawn = make_key(self._seed, epoch), drawn
        self._waiting = [found[place] for place in places]
