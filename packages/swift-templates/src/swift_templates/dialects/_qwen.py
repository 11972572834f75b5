"""The flower marks of Qwen 1 and 2, which differ by language in the prompt only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Broken, Steps
from ._reader import Reader
from ._tools import Tool

FUNCTION, ARGS, RESULT, RETURN = "✿FUNCTION✿", "✿ARGS✿", "✿RESULT✿", "✿RETURN✿"
_MARKERS = ("\n✿FUNCTION✿:", "✿FUNCTION✿:", "\n✿RESULT✿", "✿RESULT✿", "\n✿RETURN✿", "✿RETURN✿")
_PATTERN = re.compile("|".join(map(re.escape, _MARKERS)))


class Qwen(Dialect):
    """Function, arguments, result and return, each behind its mark."""

    stop_words = (RESULT, RETURN)

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        marks = (FUNCTION, ARGS, RESULT, RETURN)
        texts = [content] if content else []
        texts += [f"{FUNCTION}: {call.name}\n{ARGS}: {json_text(dict(call.arguments), marks)}" for call in calls]
        return "\n".join(texts)

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while marker := (yield from reader.text_until(_PATTERN, _MARKERS)):
            if FUNCTION not in marker:
                if reader.num_calls and not (yield from reader.skip_space()):
                    return
                raise Broken(f"the answer has {marker.strip()}; only the tool's answer stands there")
            name, _ = yield from reader.until("\n")
            index = yield from reader.start_call(name.strip())
            yield from reader.skip_space()
            yield from reader.expect(f"{ARGS}:")
            arguments = yield from reader.arguments(index)
            yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "user", "\n".join([*(f"{RESULT}: {each.content}" for each in messages), f"{RETURN}:"])
