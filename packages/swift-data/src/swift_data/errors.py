"""The errors of swift_data; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .source import Origin

Reason = Literal[
    "not JSON",
    "not an object",
    "unknown columns",
    "ambiguous columns",
    "missing field",
    "not text",
    "invalid value",
    "not supported yet",
    "unknown role",
    "wrong role order",
    "empty answer",
    "no answer",
]
"""Why a row cannot be used: the words under which such rows are counted."""


class SwiftDataError(Exception):
    """Root of all errors that swift_data raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class InvalidSpec(SwiftDataError, ValueError):
    """A dataset's spelling, such as 'a.jsonl#500', cannot be read."""


class DatasetNotFound(SwiftDataError, FileNotFoundError):
    """A dataset is neither a file nor a known name."""


class UnsupportedDataset(SwiftDataError, ValueError):
    """A dataset exists, but is of a kind that cannot be read: a folder, an unknown file type, a hub."""


class UnreadableDataset(SwiftDataError, OSError):
    """A dataset's file cannot be opened, or is broken as a whole."""


class EmptyDataset(SwiftDataError, ValueError):
    """A dataset holds no row that can be used."""


class InvalidArgument(SwiftDataError, ValueError):
    """An argument has a value outside of its range."""


class SampleTooLong(SwiftDataError, ValueError):
    """A sample has more tokens than a pack may hold."""


class MissingColumn(SwiftDataError, KeyError):
    """A reward needs a column that its caller did not give."""


class BadRow(SwiftDataError, ValueError):
    """A row cannot be used.

    Attributes:
        reason: the kind of the fault, under which such rows are counted.
        problem: the fault in words, with the field that has it.
        origin: file and line; None where the row did not come from a file.
        others: a sentence about the file's other bad rows.
    """

    def __init__(self, reason: Reason, problem: str, origin: Origin | None = None, others: str = "") -> None:
        # All of it goes to Exception, which pickles an error by its arguments.
        super().__init__(reason, problem, origin, others)
        self.reason: Reason = reason
        self.problem = problem
        self.origin = origin
        self.others = others

    def __str__(self) -> str:
        place = "" if self.origin is None else f"{self.origin}: "
        return f"{place}{self.problem}" + (f". {self.others}" if self.others else "")
