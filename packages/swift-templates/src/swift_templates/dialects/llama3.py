r"""Llama 3.1, 3.2 and 3.3: a JSON object whose arguments are called parameters.

The system prompt begins with:

    You have access to the following functions. To call a function, please respond with JSON for a function
    call.Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.Do not
    use variables. (on one line)

    {
        "type": "function",
        "function": {...}
    }

The assistant says and calls, once an answer:

    <|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}

Models leave the tag out at times, and write several calls with a semicolon between; both are read. The result is a
'tool' message, Llama's ipython:

    {"output": "21 degrees"}

Source: the chat template of Llama-3.1-8B-Instruct with its tools in the system prompt, which gives the tag to built-in
tools only; Meta's model card has it before every call in the ipython environment. Results as in vLLM's
tool_chat_template_llama3.1_json.jinja.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Broken, Steps
from ._reader import Reader
from ._tools import Tool, check_tools

_TAG = "<|python_tag|>"
_PATTERN = re.compile(re.escape(_TAG))


class Llama3(Dialect):
    """JSON objects with name and parameters."""

    several_calls = False
    tools_first = True

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        return (
            "You have access to the following functions. To call a function, please respond with JSON for a function "
            'call.Respond in the format {"name": function name, "parameters": dictionary of argument name and its '
            "value}.Do not use variables.\n\n" + "\n\n".join(json_text(tool, indent=4) for tool in tools)
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        name, arguments = json_text(calls[0].name, (_TAG,)), json_text(dict(calls[0].arguments), (_TAG,))
        return f'{content}{_TAG}{{"name": {name}, "parameters": {arguments}}}'

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        yield from reader.skip_space()
        start, reader.at = reader.at, 0
        if reader.text.startswith("{", start):
            reader.at = start
            yield from self._read_calls(reader, tagged=False)
            return
        while (yield from reader.text_until(_PATTERN, (_TAG,))):
            yield from reader.skip_space()
            yield from self._read_calls(reader, tagged=True)

    def _read_calls(self, reader: Reader, *, tagged: bool) -> Steps[None]:
        while True:
            try:
                arguments = yield from reader.call_object(
                    name_keys=("name",), argument_keys=("parameters", "arguments")
                )
            except Broken as error:
                # A JSON object may be what was asked for.
                raise Broken(
                    str(error), quiet=not tagged and reader.started is None and not reader.num_calls
                ) from error
            yield from reader.finish_call(arguments)
            if not (yield from reader.skip_space()):
                return
            if not (yield from reader.begins_with(";")):
                if tagged and (yield from reader.begins_with(_TAG)):
                    continue
                raise Broken("the answer goes on after its call; expected its end")
            yield from reader.skip_space()

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(json_text({"output": each.content}) for each in messages)
