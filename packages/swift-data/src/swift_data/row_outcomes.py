"""What became of rows when they were encoded: what a row gave, why another gave nothing, and how many of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from swift_templates.encoded import Encoded
from swift_templates.truncation import num_lost

from .errors import BadRow


class Failure(NamedTuple):
    """A row that could not be encoded.

    Attributes:
        row: its place among the rows.
        reason: under which such rows are counted.
        message: what the error said.
    """

    row: int
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class FittedRow:
    """A row's samples after the rule for long ones, with what it did to them.

    Attributes:
        samples: what is left.
        num_cut: samples that were shortened, or split.
        num_left_out: samples of which nothing is left.
        longest: tokens of the longest one before that.
        num_lost: trained tokens that they had, and that nothing which is left holds.
        notes: what else there is to say of the row; rows are counted under each of these.
    """

    samples: Sequence[Encoded]
    num_cut: int = 0
    num_left_out: int = 0
    longest: int = 0
    num_lost: int = 0
    notes: tuple[str, ...] = ()


Outcome: TypeAlias = Sequence[Encoded] | FittedRow | Exception
"""What becomes of a row: its samples, or why there are none."""


def fit_samples(samples: Sequence[Encoded], fit: Callable[[Encoded], Sequence[Encoded]]) -> FittedRow:
    """Apply the rule for long samples to those of a row, and note what it did.

    Args:
        samples: of one row.
        fit: such as `Template.truncate`: what is left of a sample, which may be several or none.
    """
    kept: list[Encoded] = []
    num_cut = num_left_out = longest = lost = 0
    for sample in samples:
        left = fit(sample)
        lost += num_lost(sample, left)
        num_left_out += not left
        num_cut += bool(left) and any(len(each) < len(sample) for each in left)
        longest = max(longest, len(sample))
        kept += left
    return FittedRow(samples=kept, num_cut=num_cut, num_left_out=num_left_out, longest=longest, num_lost=lost)


@dataclass
class Counts:
    """What became of rows.

    Attributes:
        num_rows: rows that went in.
        num_untrained: rows that gave no sample and lost none to the rule for long ones: they train nothing.
        num_cut: samples that were shortened, or split.
        num_left_out: samples left out because they are too long.
        longest: tokens of the longest sample before that.
        num_lost: trained tokens cut off, or left out, by the rule for long samples.
        largest_id: the largest token id; -1 where there is no token.
        num_trained: tokens that have a label.
        errors: rows that could not be encoded, by reason.
        notes: rows of which something was noted, by what it was.
    """

    num_rows: int = 0
    num_untrained: int = 0
    num_cut: int = 0
    num_left_out: int = 0
    longest: int = 0
    num_lost: int = 0
    largest_id: int = -1
    num_trained: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, outcome: Outcome) -> Sequence[Encoded]:
        """Count a row, but not its tokens, and return its samples."""
        self.num_rows += 1
        if isinstance(outcome, Exception):
            reason = to_reason(outcome)
            self.errors[reason] = self.errors.get(reason, 0) + 1
            return ()
        samples = outcome.samples if isinstance(outcome, FittedRow) else outcome
        num_left_out = 0
        if isinstance(outcome, FittedRow):
            num_left_out = outcome.num_left_out
            self.num_cut += outcome.num_cut
            self.num_left_out += num_left_out
            self.num_lost += outcome.num_lost
            self.longest = max(self.longest, outcome.longest)
            for noted in outcome.notes:
                self.notes[noted] = self.notes.get(noted, 0) + 1
        self.num_untrained += not samples and not num_left_out
        for sample in samples:
            self.longest = max(self.longest, len(sample))
        return samples

    def add(self, other: Counts) -> None:
        """Count those of other rows as well."""
        for name in ("num_rows", "num_untrained", "num_cut", "num_left_out", "num_lost", "num_trained"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest = max(self.longest, other.longest)
        self.largest_id = max(self.largest_id, other.largest_id)
        self.errors = dict(Counter(self.errors) + Counter(other.errors))
        self.notes = dict(Counter(self.notes) + Counter(other.notes))


def to_reason(error: Exception) -> str:
    """Return under which words a row that could not be encoded is counted."""
    return error.reason if isinstance(error, BadRow) else type(error).__name__
