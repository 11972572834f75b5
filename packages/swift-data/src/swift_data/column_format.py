"""Column formats: a raw row to a conversation, by the names of its columns.

A format declares the sets of columns it stands for. A row belongs to the format whose set it has; where one set holds
another, the larger wins (instruction, input, output is more than instruction, output). A row with two sets is refused.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from swift_templates.messages import Message
from swift_templates.registry import Registry

from .errors import BadRow
from .fields import quote

Answers = Literal["required", "optional"]
"""Whether a row must end with an answer (to train on), or may end with a question (to be asked)."""


@dataclass(frozen=True)
class Layout:
    """Columns that make a conversation.

    Attributes:
        prompt: columns that a row needs.
        answer: the column of the answer, needed too; None where the answer stands inside of a prompt column.
    """

    prompt: tuple[str, ...]
    answer: str | None = None

    @property
    def columns(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.prompt if self.answer is None else (*self.prompt, self.answer))

    def __str__(self) -> str:
        return " + ".join(self.prompt if self.answer is None else (*self.prompt, self.answer))


class ColumnFormat(ABC):
    """One way to spread a conversation over columns; `system`, `tools` and `solution` are the same beside all of them.

    Attributes:
        layouts: the sets of columns that this format stands for.
        examples: rows in this format; they document it, and tests run on them.
    """

    layouts: ClassVar[tuple[Layout, ...]]
    examples: ClassVar[tuple[Mapping[str, object], ...]]

    @abstractmethod
    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the columns of a row that make up its turns.

        Args:
            columns: the row's columns that are not null; the layout's prompt is there, its answer may be missing.
            layout: the one of this format's layouts that the row has.

        Raises:
            BadRow: a column does not hold what it should; without an origin, which the caller adds.
        """


# The registry checks against its base and never makes one, so the base may be abstract.
COLUMN_FORMATS = Registry(
    kind="column format",
    package="swift_data.columns",
    base=ColumnFormat,
)


@functools.cache
def layouts_by_format() -> tuple[tuple[ColumnFormat, Layout], ...]:
    """Return each registered format with each of its layouts."""
    formats = [COLUMN_FORMATS.load_class(name)() for name in COLUMN_FORMATS.names()]
    return tuple((each, layout) for each in formats for layout in each.layouts)


def find_format(columns: Mapping[str, object], *, answers: Answers = "required") -> tuple[ColumnFormat, Layout]:
    """Return the format that a row has, with its layout.

    Args:
        columns: the row's columns that are not null.
        answers: 'optional' also takes a row that has a layout's prompt only.

    Raises:
        BadRow: the columns belong to no format, or to more than one.
    """
    # Other columns don't matter here; without them, few different sets remain to be looked up.
    present = _known_columns().intersection(columns)
    if not columns:
        raise BadRow("unknown columns", "the row has no columns that are not null; expected a conversation")
    if not present:
        known = "; ".join(str(layout) for _, layout in layouts_by_format())
        raise BadRow(
            "unknown columns",
            f"no format knows the columns {quote(columns)}; known are: {known}. Rename yours with the option columns",
        )
    return _find_format(present, answers)


@functools.lru_cache(maxsize=1024)
def _find_format(present: frozenset[str], answers: Answers) -> tuple[ColumnFormat, Layout]:
    found = [(each, layout) for each, layout in layouts_by_format() if layout.columns <= present]
    if not found and answers == "optional":
        found = [(each, layout) for each, layout in layouts_by_format() if present.issuperset(layout.prompt)]
        # Layouts with one prompt and different answers are the same as long as there is no answer.
        found = list({layout.prompt: (each, layout) for each, layout in found}.values())
    largest = [
        (each, layout) for each, layout in found if not any(layout.columns < other.columns for _, other in found)
    ]
    if not largest:
        raise BadRow("missing field", _describe_missing(present))
    if len(largest) > 1:
        both = " and ".join(f"'{layout}'" for _, layout in largest)
        raise BadRow("ambiguous columns", f"the row has the columns of {both}; keep those of one, or rename the others")
    return largest[0]


@functools.cache
def _known_columns() -> frozenset[str]:
    return frozenset().union(*(layout.columns for _, layout in layouts_by_format()))


def _describe_missing(present: frozenset[str]) -> str:
    touched = [layout for _, layout in layouts_by_format() if layout.columns & present]
    fewest = min(len(layout.columns - present) for layout in touched)
    closest = [layout.columns - present for layout in touched if len(layout.columns - present) == fewest]
    missing = sorted({" and ".join(map(repr, sorted(names))) for names in closest})
    return f"the row has {quote(sorted(present))} but lacks {' or '.join(missing)} (missing or null)"
