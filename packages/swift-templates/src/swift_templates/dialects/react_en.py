r"""ReACT in English: thought, action and observation, a line each.

The system prompt ends with:

    Answer the following questions as best you can. You have access to the following tools:

    {"name": "get_weather", "description": "...", "parameters": {...}}

    Use the following format:

    Question: the input question you must answer
    Thought: you should always think about what to do
    Action: the action to take, should be one of [get_weather]
    Action Input: the input to the action
    Observation: the result of the action
    ... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
    Thought: I now know the final answer
    Final Answer: the final answer to the original input question

    Begin!

The assistant thinks and calls, one call an answer; the thought is the message's content, "Thought: " included:

    Thought: I need the weather.
    Action: get_weather
    Action Input: {"city": "Paris"}
    Observation:

The result comes from the user, as it is. 'Observation:' is where a server stops. Source: ReAct (arXiv 2210.03629), in
the wording of Qwen's examples and of ms-swift's `react_en`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import json_text
from ._react import ReAct
from ._tools import Tool, functions_of


class ReActEn(ReAct):
    """ReACT with an English prompt."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        functions = functions_of(tools)
        return (
            "Answer the following questions as best you can. You have access to the following tools:\n\n"
            + "\n\n".join(map(json_text, functions))
            + "\n\nUse the following format:\n\n"
            "Question: the input question you must answer\n"
            "Thought: you should always think about what to do\n"
            f"Action: the action to take, should be one of [{','.join(str(each['name']) for each in functions)}]\n"
            "Action Input: the input to the action\n"
            "Observation: the result of the action\n"
            "... (this Thought/Action/Action Input/Observation can be repeated zero or more times)\n"
            "Thought: I now know the final answer\n"
            "Final Answer: the final answer to the original input question\n\n"
            "Begin!\n"
        )
