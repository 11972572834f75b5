r"""DeepSeek R1: the calls and results of `deepseek_v3`, and tools told in another way.

The system prompt ends with:

    You are a helpful assistant with tool calling capabilities. When a tool call is needed, you MUST use ...

    Make sure the JSON is valid.## Tools

    ### Function

    You have the following functions available:

    (each tool follows as JSON, in a block of code)

Source: DeepSeek-R1's chat template for calls and results. It has nothing for the tools: their text is that of vLLM's
tool_chat_template_deepseekr1.jinja.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._deepseek import CALL, CALL_END, CALLS, CALLS_END, SEP, DeepSeek
from ._tools import Tool, check_tools


class DeepSeekR1(DeepSeek):
    """DeepSeek R1's prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        return (
            "You are a helpful assistant with tool calling capabilities. "
            "When a tool call is needed, you MUST use the following format to issue the call:\n"
            f"{CALLS}{CALL}function{SEP}FUNCTION_NAME\n"
            f'```json\n{{"param1": "value1", "param2": "value2"}}\n```{CALL_END}{CALLS_END}\n\n'
            "Make sure the JSON is valid.## Tools\n\n### Function\n\nYou have the following functions available:\n\n"
            + "".join(f"\n```json\n{json_text(tool)}\n```\n" for tool in tools)
        )
