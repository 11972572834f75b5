r"""InternLM 2, 2.5 and 3: a JSON object after <|action_start|><|plugin|>.

The tools are a JSON list, in a system message of their own with the name <|plugin|>; where a conversation is rewritten,
it stands at the end of the one system message:

    [{"name": "get_weather", "description": "...", "parameters": {...}}]

The assistant says and calls:

    Let me see.<|action_start|><|plugin|>
    {"name": "get_weather", "parameters": {"city": "Paris"}}<|action_end|>

The results come from the environment, one message each; as a 'tool' message, several stand on a line each:

    21 degrees

Source: chat/chat_format.md of InternLM. Several calls follow each other, as in vLLM's template for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ..messages import Message, Role
from ._json_calls import JsonCalls
from ._tools import Tool, functions_of


class InternLM(JsonCalls):
    """JSON objects after <|action_start|><|plugin|>."""

    opening = "<|action_start|><|plugin|>"
    around = ("\n", "")
    closing = "<|action_end|>"
    arguments_key = "parameters"

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        return json_text([*functions_of(tools)])

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(each.content for each in messages)
