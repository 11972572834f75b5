"""Where a conversation's earlier answers stand in the prompt of a later one.

The text of the first messages is where the next one begins, if the prompt begins with it. A template that changes the
history, as by taking reasoning out, shows some of them otherwise than they stood there. Such an answer lies between the
nearest places that are known: what is found is never too short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from .errors import ChatTemplateError, TemplateMismatch
from .rendering import Rendering

KnownTexts: TypeAlias = dict[tuple[str, int], str | None]
"""Texts of a conversation up to a message, so that none is rendered twice."""


class EarlierAnswer(NamedTuple):
    """An answer inside of a prompt, in characters."""

    position: int
    """Of its message."""
    start: int
    end: int
    next_start: int
    """Where the next answer begins: behind the results of its calls, if it has any."""
    has_calls: bool


@dataclass(frozen=True)
class AnswerPlace:
    """Where an answer stands in its conversation."""

    rendering: Rendering
    position: int
    stops: re.Pattern[str]
    """Matches the spelling of every stop token."""

    def earlier(self) -> list[int]:
        """Return the positions of the answers before it."""
        numbers = [0, *map(self.rendering.answer_number, range(self.position))]
        return [at for at in range(self.position) if numbers[at + 1] > numbers[at]]

    def find(
        self, prompt: str, positions: Sequence[int], answers: Sequence[int], known: KnownTexts
    ) -> Iterator[EarlierAnswer]:
        """Yield where answers before it stand in its prompt.

        Args:
            prompt: what a server sends for it.
            positions: of those that are looked for.
            answers: what `earlier` returns.
            known: filled; the same for all answers of a conversation.
        """
        following = dict(pairwise([*answers, self.position]))
        for at in positions:
            start, end = self._begin(prompt, at, known), self._first_known(prompt, at + 1, known)
            if start is not None and (stop := self.stops.search(prompt, start)) is not None:
                end = min(end, stop.end())
            yield EarlierAnswer(
                at,
                self._last_known(prompt, at, known),
                end,
                self._first_known(prompt, following[at], known),
                self.rendering.has_calls(at),
            )

    def _last_known(self, prompt: str, count: int, known: KnownTexts) -> int:
        places = (self._begin(prompt, each, known) for each in range(count, 0, -1))
        return next((place for place in places if place is not None), 0)

    def _first_known(self, prompt: str, count: int, known: KnownTexts) -> int:
        places = (self._begin(prompt, each, known) for each in range(count, self.position))
        return next((place for place in places if place is not None), len(prompt))

    def _begin(self, prompt: str, count: int, known: KnownTexts) -> int | None:
        """Return where the message after the first `count` begins, an answer's if possible without its header."""
        for name, render in (("prompt", self.rendering.prompt), ("history", self.rendering.history)):
            if name == "prompt" and self.rendering.answer_number(count) == self.rendering.answer_number(count - 1):
                continue
            if (name, count) not in known:
                known[name, count] = _rendered(render, count)
            text = known[name, count]
            if text is not None and prompt.startswith(text):
                return len(text)
        return None


def _rendered(render: Callable[[int], str], count: int) -> str | None:
    try:
        return render(count)
    except (ChatTemplateError, TemplateMismatch):
        # Some templates refuse a conversation that ends here. Then this is no place that is known.
        return None
