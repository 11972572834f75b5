r"""DeepSeek V3: each call has a type, a name, and its arguments in a block of code.

The system prompt ends with:

    # Tools

    You may call one or more functions to assist with the user query.

    You are provided with function signatures within <tools></tools> XML tags:
    <tools>
    {"type": "function", "function": {"name": "get_weather", "parameters": {...}}}
    </tools>

    For function call returns, you should first print <｜tool▁calls▁begin｜>
    ...

The assistant says and calls (the marks stand on one line with what surrounds them):

    Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

A second call begins on a new line. The results, as a 'tool' message without marks of a turn:

    <｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>21 degrees<｜tool▁output▁end｜><｜tool▁outputs▁end｜>

Source: DeepSeek-V3's chat template for calls and results. It has nothing for the tools: their text is that of vLLM's
tool_chat_template_deepseekv3.jinja.
"""  # noqa: RUF002  # the tokens have such bars

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._deepseek import CALL, CALL_END, CALLS, CALLS_END, SEP, DeepSeek
from ._tools import Tool, check_tools


class DeepSeekV3(DeepSeek):
    """DeepSeek V3's prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        lines = "\n".join(json_text(tool) for tool in tools)
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{lines}\n</tools>\n\n"
            f"For function call returns, you should first print {CALLS}"
            "For each function call, you should return object like:\n"
            f"{CALL}function{SEP}<function_name>\n```json\n<function_arguments_in_json_format>\n```{CALL_END}"
            f"At the end of function call returns, you should print {CALLS_END}<｜end▁of▁sentence｜>"  # noqa: RUF001
        )
