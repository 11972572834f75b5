r"""Qwen 1 and 2 in Chinese: the marks of `qwen_en`, with a Chinese prompt.

The system prompt ends with:

    # 工具

    ## 你拥有如下工具：

    ### get_weather

    get_weather: 查询天气 输入参数：{...} 此工具的输入应为JSON对象。

    ## 你可以在回复中插入以下命令以并行调用N个工具：

    ✿FUNCTION✿: 工具1的名称，必须是[get_weather]之一
    ✿ARGS✿: 工具1的输入
    ...

Calls and results are those of `qwen_en`. Source: Qwen-Agent, qwen_fncall_prompt.py.
"""  # the prompt is Chinese

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._qwen import ARGS, FUNCTION, RESULT, RETURN, Qwen
from ._tools import Tool, functions_of


class QwenZh(Qwen):
    """Qwen's marks with a Chinese prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        functions = functions_of(tools)
        names = ",".join(str(each["name"]) for each in functions)
        described = "\n\n".join(
            f"### {each['name']}\n\n{each['name']}: {each.get('description') or ''} "
            f"输入参数：{json_text(each.get('parameters') or {})} 此工具的输入应为JSON对象。"
            for each in functions
        )
        return (
            f"# 工具\n\n## 你拥有如下工具：\n\n{described}\n\n"  # the prompt is Chinese
            "## 你可以在回复中插入以下命令以并行调用N个工具：\n\n"
            f"{FUNCTION}: 工具1的名称，必须是[{names}]之一\n"
            f"{ARGS}: 工具1的输入\n"
            f"{FUNCTION}: 工具2的名称\n"
            f"{ARGS}: 工具2的输入\n"
            "...\n"
            f"{FUNCTION}: 工具N的名称\n"
            f"{ARGS}: 工具N的输入\n"
            f"{RESULT}: 工具1的结果\n"
            f"{RESULT}: 工具2的结果\n"
            "...\n"
            f"{RESULT}: 工具N的结果\n"
            f"{RETURN}: 根据工具结果进行回复，需将图片用![](url)渲染出来"
        )
