r"""Qwen 1 and 2 in English: calls behind marks of flowers.

Qwen 2.5 and 3 speak `hermes` instead.

The system prompt ends with:

    # Tools

    ## You have access to the following tools:

    ### get_weather

    get_weather: Get the weather. Parameters: {...} Format the arguments as a JSON object.

    ## Insert the following command in your reply when you need to call N tools in parallel:

    ✿FUNCTION✿: The name of tool 1, should be one of [get_weather]
    ✿ARGS✿: The input of tool 1
    ...

The assistant says and calls, once or several times:

    Let me see.
    ✿FUNCTION✿: get_weather
    ✿ARGS✿: {"city": "Paris"}

The results:

    ✿RESULT✿: 21 degrees
    ✿RETURN✿:

Source: Qwen-Agent, qwen_fncall_prompt.py. Deviation: there the results and what the model makes of them go on in the
same turn of the assistant; here they are a turn of the user, since messages have one author each.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._qwen import ARGS, FUNCTION, RESULT, RETURN, Qwen
from ._tools import Tool, functions_of


class QwenEn(Qwen):
    """Qwen's marks with an English prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        functions = functions_of(tools)
        names = ",".join(str(each["name"]) for each in functions)
        described = "\n\n".join(
            f"### {each['name']}\n\n{each['name']}: {each.get('description') or ''} "
            f"Parameters: {json_text(each.get('parameters') or {})} Format the arguments as a JSON object."
            for each in functions
        )
        return (
            f"# Tools\n\n## You have access to the following tools:\n\n{described}\n\n"
            "## Insert the following command in your reply when you need to call N tools in parallel:\n\n"
            f"{FUNCTION}: The name of tool 1, should be one of [{names}]\n"
            f"{ARGS}: The input of tool 1\n"
            f"{FUNCTION}: The name of tool 2\n"
            f"{ARGS}: The input of tool 2\n"
            "...\n"
            f"{FUNCTION}: The name of tool N\n"
            f"{ARGS}: The input of tool N\n"
            f"{RESULT}: The result of tool 1\n"
            f"{RESULT}: The result of tool 2\n"
            "...\n"
            f"{RESULT}: The result of tool N\n"
            f"{RETURN}: Reply based on tool results. Images need to be rendered as ![](url)"
        )
