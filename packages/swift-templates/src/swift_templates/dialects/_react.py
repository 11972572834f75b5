"""ReACT's lines, which differ by language in the prompt only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Broken, Steps
from ._reader import Reader
from ._tools import Tool

_MARKERS = ("\nAction:",)
_PATTERN = re.compile("\nAction:")


class ReAct(Dialect):
    """Action, Action Input and Observation, on a line each."""

    several_calls = False
    several_results = False
    stop_words: ClassVar[tuple[str, ...]] = ("Observation:",)

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        [call] = calls
        # A server stops at 'Observation:', inside of arguments too.
        arguments = json_text(dict(call.arguments), ("Observation:",))
        return f"{content}\n" * bool(content) + f"Action: {call.name}\nAction Input: {arguments}\nObservation:"

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        at_start = yield from reader.begins_with("Action:")
        if not at_start and not (yield from reader.text_until(_PATTERN, _MARKERS)):
            return
        name, _ = yield from reader.until("\n")
        index = yield from reader.start_call(name.strip())
        yield from reader.skip_space()
        yield from reader.expect("Action Input:")
        arguments = yield from reader.arguments(index)
        yield from reader.finish_call(arguments)
        if not (yield from reader.skip_space()):
            return
        yield from reader.expect("Observation:")
        if (yield from reader.skip_space()):
            raise Broken("the answer goes on after its call; only the tool's answer stands there")

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "user", messages[0].content
