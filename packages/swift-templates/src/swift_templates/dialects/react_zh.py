r"""ReACT with a Chinese prompt: its lines have English names all the same.

The system prompt ends with:

    尽你所能回答以下问题。你拥有如下工具：

    {"name": "get_weather", "description": "...", "parameters": {...}}

    使用以下格式回答：

    Thought: 思考你应该做什么
    Action: 工具的名称，必须是[get_weather]之一
    Action Input: 工具的输入
    Observation: 工具返回的结果
    ... (Thought/Action/Action Input/Observation的过程可以重复零次或多次)
    Final Answer: 对输入问题的最终答案

    开始！

Calls and results are those of `react_en`. Source: ms-swift's `react_zh`.
"""  # the prompt is Chinese

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._react import ReAct
from ._tools import Tool, functions_of


class ReActZh(ReAct):
    """ReACT with a Chinese prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        functions = functions_of(tools)
        return (
            "尽你所能回答以下问题。你拥有如下工具：\n\n"  # the prompt is Chinese
            + "\n\n".join(map(json_text, functions))
            + "\n\n使用以下格式回答：\n\n"
            "Thought: 思考你应该做什么\n"
            f"Action: 工具的名称，必须是[{','.join(str(each['name']) for each in functions)}]之一\n"
            "Action Input: 工具的输入\n"
            "Observation: 工具返回的结果\n"
            "... (Thought/Action/Action Input/Observation的过程可以重复零次或多次)\n"
            "Final Answer: 对输入问题的最终答案\n\n"
            "开始！\n"
        )
