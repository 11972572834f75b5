r"""GLM-4: the name on the first line, the arguments below, and no mark at all.

The system prompt ends with:

    # 可用工具

    ## get_weather

    {
        "name": "get_weather",
        "parameters": {...}
    }
    在调用上述函数时，请使用 Json 格式表示调用的参数。

The assistant calls, once an answer and without a word beside:

    get_weather
    {"city": "Paris"}

The result is a 'tool' message, GLM's observation, as it is. An answer is a call where its first line is one word and
its second begins with '{'. Source: the chat template of GLM-4 (glm-4-9b-chat). Deviation: its own system prompt, which
says that it is GLM-4, is left to the chat template.
"""  # the prompt is Chinese

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Broken, Steps
from ._reader import Reader
from ._tools import Tool, functions_of

_LONGEST_NAME = 256
_NAME = re.compile(r"[\w.\-]+")


class GLM4(Dialect):
    """A name, a newline, JSON."""

    several_calls = False
    text_beside_calls = False

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        return "# 可用工具" + "".join(
            f"\n\n## {each['name']}\n\n{json_text(each, indent=4)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
            for each in functions_of(tools)
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        return f"{calls[0].name}\n{json_text(dict(calls[0].arguments))}"

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        name = yield from self._name(reader)
        if not name:
            return
        index = yield from reader.start_call(name)
        arguments = yield from reader.arguments(index)
        yield from reader.finish_call(arguments)
        if (yield from reader.skip_space()):
            raise Broken("the answer goes on after its call; expected its end")

    def _name(self, reader: Reader) -> Steps[str]:
        """Step over a line of one word if the next one begins with a brace."""
        while True:
            found = _NAME.match(reader.text)
            if found is None and reader.text:
                return ""
            end = found.end() if found else 0
            if end > _LONGEST_NAME:
                return ""
            following = reader.text[end : end + 2]
            if following == "\n{" and found is not None:
                reader.at = end + 1
                return found[0]
            if reader.ended or not "\n{".startswith(following):
                return ""
            yield None

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(each.content for each in messages)
