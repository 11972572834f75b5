"""What is told of an answer while it is read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from ..messages import ToolCall

Result = TypeVar("Result")


@dataclass(frozen=True)
class TextDelta:
    """More of what the assistant says."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """A call begins; its arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True)
class CallFinished:
    """A call is whole, and its arguments are a JSON object."""

    index: int
    call: ToolCall


@dataclass(frozen=True)
class CallDropped:
    """What had started is no call after all; its whole text follows as text deltas."""

    index: int
    problem: str


Event: TypeAlias = TextDelta | CallStarted | ArgumentsDelta | CallFinished | CallDropped
Steps: TypeAlias = Generator[Event | None, None, Result]
"""What reads: it yields events, and None where more text is needed; it returns what it has read."""


class Broken(Exception):
    """What began as a call is none; `quiet` where it need not have been meant as one."""

    def __init__(self, problem: str, *, quiet: bool = False) -> None:
        super().__init__(problem)
        self.quiet = quiet
