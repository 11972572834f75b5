"""DeepSeek's marks around calls, which all its models have, and V3's and R1's calls between them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Steps
from ._reader import Reader
from ._tools import Tool

CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"  # noqa: RUF001  # the tokens have such bars
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"  # noqa: RUF001
SEP = "<｜tool▁sep｜>"  # noqa: RUF001
OUTPUTS, OUTPUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"  # noqa: RUF001
OUTPUT, OUTPUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"  # noqa: RUF001

MARKS = (CALLS, CALLS_END, CALL, CALL_END, SEP, OUTPUTS, OUTPUTS_END, OUTPUT, OUTPUT_END)
_PATTERN = re.compile(CALLS)


class DeepSeek(Dialect):
    """Calls between marks; V3's and R1's have a type, and their arguments stand in a block of code."""

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        written = "\n".join(
            f"{CALL}function{SEP}{call.name}\n```json\n{json_text(dict(call.arguments), MARKS)}\n```{CALL_END}"
            for call in calls
        )
        return f"{content}{CALLS}{written}{CALLS_END}"

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while (yield from reader.text_until(_PATTERN, (CALLS,))):
            yield from reader.skip_space()
            mark = yield from reader.expect(CALL)
            while mark == CALL:
                yield from self.read_call(reader)
                if not (yield from reader.skip_space()):
                    return
                mark = yield from reader.expect(CALL, CALLS_END)

    def read_call(self, reader: Reader) -> Steps[None]:
        """Read what stands between the marks of one call."""
        yield from reader.until(SEP)
        name, _ = yield from reader.until("\n")
        index = yield from reader.start_call(name.strip())
        yield from reader.skip_space()
        yield from reader.expect("```json")
        arguments = yield from reader.arguments(index)
        yield from reader.skip_space()
        yield from reader.expect("```")
        yield from reader.skip_space()
        yield from reader.expect(CALL_END)
        yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        outputs = "\n".join(f"{OUTPUT}{each.content}{OUTPUT_END}" for each in messages)
        return "tool", f"{OUTPUTS}{outputs}{OUTPUTS_END}"
