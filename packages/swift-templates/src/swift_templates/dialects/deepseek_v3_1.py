r"""DeepSeek V3.1: name and arguments of each call, and nothing else, between marks.

The system prompt ends with:

    ## Tools
    You have access to the following tools:

    ### get_weather
    Description: Get the weather.

    Parameters: {"type": "object", "properties": {"city": {"type": "string"}}}

    IMPORTANT: ALWAYS adhere to this exact format for tool use:
    ...

The assistant says and calls, all on one line:

    Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>
    <｜tool▁calls▁end｜>

The results, as a 'tool' message without marks of a turn:

    <｜tool▁output▁begin｜>21 degrees<｜tool▁output▁end｜>

Source: the chat template and the model card of DeepSeek-V3.1.
"""  # noqa: RUF002  # the tokens have such bars

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ..messages import Message, Role, ToolCall
from ._deepseek import CALL, CALL_END, CALLS, CALLS_END, MARKS, OUTPUT, OUTPUT_END, SEP, DeepSeek
from ._events import Steps
from ._reader import Reader
from ._tools import Tool, functions_of


class DeepSeekV31(DeepSeek):
    """DeepSeek V3.1's prompt and calls."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        described = "\n\n".join(
            f"### {each['name']}\nDescription: {each.get('description') or ''}\n\n"
            f"Parameters: {json_text(each.get('parameters') or {})}"
            for each in functions_of(tools)
        )
        return (
            f"## Tools\nYou have access to the following tools:\n\n{described}\n\n"
            "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
            f"{CALLS}{CALL}tool_call_name{SEP}tool_call_arguments{CALL_END}{{{{additional_tool_calls}}}}{CALLS_END}\n\n"
            "Where:\n\n"
            "- `tool_call_name` must be an exact match to one of the available tools\n"
            "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
            "- For multiple tool calls, chain them directly without separators or spaces\n"
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        written = "".join(f"{CALL}{each.name}{SEP}{json_text(dict(each.arguments), MARKS)}{CALL_END}" for each in calls)
        return f"{content}{CALLS}{written}{CALLS_END}"

    def read_call(self, reader: Reader) -> Steps[None]:
        """See `DeepSeek.read_call`."""
        name, _ = yield from reader.until(SEP)
        index = yield from reader.start_call(name.strip())
        arguments = yield from reader.arguments(index)
        yield from reader.skip_space()
        yield from reader.expect(CALL_END)
        yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "".join(f"{OUTPUT}{each.content}{OUTPUT_END}" for each in messages)
