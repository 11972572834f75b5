r"""GLM 4.5 and 4.6: a name, then key and value of each argument in tags.

The system prompt begins with:

    # Tools

    You may call one or more functions to assist with the user query.

    You are provided with function signatures within <tools></tools> XML tags:
    <tools>
    {"type": "function", "function": {"name": "get_weather", "parameters": {...}}}
    </tools>

    For each function call, output the function name and arguments within the following XML format:
    <tool_call>{function-name}
    <arg_key>{arg-key-1}</arg_key>
    <arg_value>{arg-value-1}</arg_value>
    <arg_key>{arg-key-2}</arg_key>
    <arg_value>{arg-value-2}</arg_value>
    ...
    </tool_call>

GLM has that in a system turn of its own; in a rewritten conversation, the system prompt follows it after an empty line.
The assistant says and calls:

    Let me see.
    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

Text is written bare, everything else as JSON. The results are one 'tool' message, GLM's observation:

    <tool_response>
    21 degrees
    </tool_response>

Source: the chat template of GLM-4.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import JSON, Message, Role, ToolCall
from ._events import ArgumentsDelta, Broken, Steps
from ._reader import Reader
from ._tools import Tool, check_tools
from ._typed_values import bare_text, value_of

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MARKERS = ("\n<tool_call>", "<tool_call>")
_PATTERN = re.compile("|".join(_MARKERS))
_MARKS = (_OPEN, _CLOSE, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")


class GLM45(Dialect):
    """Keys and values in tags."""

    tools_first = True

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        lines = "\n".join(json_text(tool) for tool in tools)
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{lines}\n</tools>\n\n"
            "For each function call, output the function name and arguments within the following XML format:\n"
            "<tool_call>{function-name}\n"
            "<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
            "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n"
            "...\n</tool_call>"
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        texts = [content] if content else []
        for call in calls:
            lines = [_OPEN + call.name]
            for key, value in call.arguments.items():
                lines += [f"<arg_key>{key}</arg_key>", f"<arg_value>{bare_text(value, _MARKS)}</arg_value>"]
            texts.append("\n".join([*lines, _CLOSE]))
        return "\n".join(texts)

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while (yield from reader.text_until(_PATTERN, _MARKERS)):
            name, mark = yield from reader.until("<arg_key>", _CLOSE)
            name = name.strip()
            index = yield from reader.start_call(name)
            arguments: dict[str, JSON] = {}
            while mark == "<arg_key>":
                key, _ = yield from reader.until("</arg_key>")
                if key in arguments:
                    raise Broken(f"a call of {name!r} has the argument {key!r} twice")
                yield from reader.skip_space()
                yield from reader.expect("<arg_value>")
                text, _ = yield from reader.until("</arg_value>")
                arguments[key] = value_of(text, tools, name, key)
                yield from reader.skip_space()
                mark = yield from reader.expect("<arg_key>", _CLOSE)
            yield ArgumentsDelta(index, json_text(dict(arguments)))
            yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(f"<tool_response>\n{each.content}\n</tool_response>" for each in messages)
