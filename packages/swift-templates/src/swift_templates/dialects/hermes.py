r"""Hermes: a JSON object in <tool_call> tags, as Nous Hermes 2 Pro, Qwen 2.5 and Qwen 3 write it.

The system prompt ends with:

    # Tools

    You may call one or more functions to assist with the user query.

    You are provided with function signatures within <tools></tools> XML tags:
    <tools>
    {"type": "function", "function": {"name": "get_weather", "parameters": {...}}}
    </tools>

    For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML
    tags: (on one line)
    <tool_call>
    {"name": <function-name>, "arguments": <args-json-object>}
    </tool_call>

The assistant says and calls:

    Let me see.
    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

The results come from the user:

    <tool_response>
    21 degrees
    </tool_response>

Source: the chat templates of Qwen2.5 and Qwen3.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ..messages import Message, Role
from ._json_calls import JsonCalls
from ._tools import Tool, check_tools


class Hermes(JsonCalls):
    """JSON objects in <tool_call> tags."""

    opening = "<tool_call>"
    closing = "</tool_call>"
    around = ("\n", "\n")
    separator = "\n"

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        lines = "\n".join(json_text(tool) for tool in tools)
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{lines}\n</tools>\n\n"
            "For each function call, return a json object with function name and arguments within "
            "<tool_call></tool_call> XML tags:\n"
            '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        )

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "user", "\n".join(f"<tool_response>\n{each.content}\n</tool_response>" for each in messages)
