"""Bad rows, counted: the first whole, of the others reasons and lines."""

from __future__ import annotations

from collections import Counter
from typing import Final

from .errors import BadRow, Reason

# How many line numbers a message lists for each reason.
_SHOWN_LINES: Final = 3

REMEDY: Final = "Correct the file, or set on_bad_row to 'skip' to leave such rows out and count them"


class BadRows:
    """The bad rows of one file."""

    def __init__(self) -> None:
        self.first: BadRow | None = None
        self.counts: Counter[Reason] = Counter()
        self._lines: dict[Reason, list[int]] = {}

    def add(self, error: BadRow) -> None:
        """Count one more."""
        assert error.origin is not None, "sources and to_row give bad rows an origin"
        self.counts[error.reason] += 1
        lines = self._lines.setdefault(error.reason, [])
        if self.first is None:
            self.first = error
        elif len(lines) < _SHOWN_LINES:
            lines.append(error.origin.line)

    def merge(self, later: BadRows) -> None:
        """Count those of a later part of the file as well."""
        if later.first is None:
            return
        counts = self.counts + later.counts
        self.add(later.first)
        for reason, lines in later._lines.items():
            known = self._lines.setdefault(reason, [])
            known += lines[: _SHOWN_LINES - len(known)]
        self.counts = counts

    def describe_others(self) -> str:
        """Say how many there are besides the first, by reason, and where."""
        assert self.first is not None, "there is a first bad row"
        others = self.counts - Counter([self.first.reason])
        total = others.total()
        if total == 0:
            return "No other row of this file is bad"
        kinds = [f"{count} {reason!r} ({self._show_lines(reason, count)})" for reason, count in others.most_common()]
        return f"{total} more row{' of this file is' if total == 1 else 's of this file are'} bad: {', '.join(kinds)}"

    def _show_lines(self, reason: Reason, count: int) -> str:
        lines = self._lines[reason]
        shown = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
        return f"line {shown}" if count == 1 else f"lines {shown}"


def describe_counts(counts: Counter[Reason]) -> str:
    """Show numbers by reason: 4 'empty answer', 2 'not JSON'."""
    return ", ".join(f"{count} {reason!r}" for reason, count in counts.most_common())
