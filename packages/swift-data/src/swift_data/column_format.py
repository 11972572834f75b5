"""Column formats: a raw row to a conversation, by the names of its columns.

A format declares the sets of columns it stands for. A row belongs to the format whose set it has; where one set holds
another, the larger wins (instruction, input, output is more than instruction, output). A row with two sets is refused,
but that `chosen` and `rejected` win over all else, and that plain text is what is left where there is nothing else.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from swift_templates.messages import Message
from swift_templates.registry import Registry

from .errors import BadRow
from .fields import quote

Answers = Literal["required", "optional"]
"""Whether a row must end with an answer (to train on), or may end with a question (to be asked)."""

Place = Literal["first", "beside others", "without others", "alone"]
"""Which rows a layout stands for: those that have it whatever else they have; those that have no second layout; those
with no other column that a format knows; those with no other column at all."""

ALIASES: Final = {"system": "system_prompt", "tools": "functions", "label": "kto_tag"}
"""Other names for some of them: OpenOrca's, OpenAI's older one, and LLaMA-Factory's."""

COMPANIONS: Final = frozenset(
    {
        *ALIASES,
        *ALIASES.values(),
        "solution",
        "channel",
        "rejected_response",
        "rejected_messages",
        "image",
        "images",
        "video",
        "videos",
        "audio",
        "audios",
        "objects",
    }
)
"""Columns that mean the same beside every layout."""


@dataclass(frozen=True)
class Layout:
    """Columns that make a conversation.

    Attributes:
        prompt: columns that a row needs.
        answer: the column of the answer, needed too; None where the answer stands inside of a prompt column.
        place: which rows it stands for.
    """

    prompt: tuple[str, ...]
    answer: str | None = None
    place: Place = "beside others"

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.prompt if self.answer is None else (*self.prompt, self.answer))

    def __str__(self) -> str:
        return " + ".join(self.prompt if self.answer is None else (*self.prompt, self.answer))


class ColumnFormat(ABC):
    """One way to spread a conversation over columns; the `COMPANIONS` are the same beside all of them.

    Attributes:
        layouts: the sets of columns that this format stands for.
        optional: further columns that it reads where a row has them.
        examples: rows in this format; they document it, and tests run on them.
    """

    layouts: ClassVar[tuple[Layout, ...]]
    optional: ClassVar[frozenset[str]] = frozenset()
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

    def to_rejected(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the conversation that ends with the worse answer, from its first message on; most formats have none.

        Raises:
            BadRow: as `to_messages` does.
        """
        return []


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
    alone = len(present) == len(columns) or columns.keys() <= present | COMPANIONS
    return _find_format(present, answers, alone)


@functools.lru_cache(maxsize=1024)
def _find_format(present: frozenset[str], answers: Answers, alone: bool) -> tuple[ColumnFormat, Layout]:
    open_to = [(each, layout) for each, layout in layouts_by_format() if _is_open(layout, present, alone)]
    found = [(each, layout) for each, layout in open_to if layout.columns <= present]
    sizes = {layout: layout.columns for _, layout in found}
    if not found and answers == "optional":
        found = [(each, layout) for each, layout in open_to if present.issuperset(layout.prompt)]
        # Layouts with one prompt and different answers are the same as long as there is no answer.
        found = list({layout.prompt: (each, layout) for each, layout in found}.values())
        sizes = {layout: frozenset(layout.prompt) for _, layout in found}
    found = [(each, layout) for each, layout in found if layout.place == "first"] or found
    largest = [(each, layout) for each, layout in found if not any(sizes[layout] < sizes[other] for _, other in found)]
    if not largest:
        raise BadRow("missing field", _describe_missing(present))
    if len(largest) > 1:
        both = " and ".join(f"'{layout}'" for _, layout in largest)
        raise BadRow("ambiguous columns", f"the row has the columns of {both}; keep those of one, or rename the others")
    return largest[0]


def _is_open(layout: Layout, present: frozenset[str], alone: bool) -> bool:
    if layout.place in ("without others", "alone"):
        return present == layout.columns and (alone or layout.place != "alone")
    return True


@functools.cache
def _known_columns() -> frozenset[str]:
    return frozenset().union(*(layout.columns for _, layout in layouts_by_format()))


def _describe_missing(present: frozenset[str]) -> str:
    # What stands alone is not near to a row that has more.
    whole = [layout for _, layout in layouts_by_format() if layout.place in ("first", "beside others")]
    touched = [layout for layout in whole if layout.columns & present]
    if not touched:
        return f"the row has {quote(sorted(present))}, which makes no row beside its other columns"
    fewest = min(len(layout.columns - present) for layout in touched)
    closest = [layout.columns - present for layout in touched if len(layout.columns - present) == fewest]
    missing = sorted({" and ".join(map(repr, sorted(names))) for names in closest})
    return f"the row has {quote(sorted(present))} but lacks {' or '.join(missing)} (missing or null)"
