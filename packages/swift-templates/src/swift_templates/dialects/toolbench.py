r"""ToolBench: ReACT's lines, with a prompt that wants the function "Finish" called at the end.

The system prompt ends with a task description, of which this is the frame:

    You can use many tools(functions) to do the following task.
    ... Your output should follow this format:
    Thought:
    Action:
    Action Input:
    ...
    Specifically, you have access to the following APIs: [{"name": "get_weather", ...}]

The assistant thinks and calls, one call an answer:

    Thought: I need the weather.
    Action: get_weather
    Action Input: {"city": "Paris"}

The result comes from the tool as it is, in ToolBench's 'function' role. Source: ToolLLM (arXiv 2307.16789), the prompt
FORMAT_INSTRUCTIONS_SYSTEM_FUNCTION of its repository, as ms-swift writes it. Deviation from `react_en`: no
'Observation:' ends the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..dialect import json_text
from ..messages import Message, Role, ToolCall
from ._react import ReAct
from ._tools import Tool, functions_of

_PROMPT = """\
You can use many tools(functions) to do the following task.
First I will give you the task description, and your task start.
At each step, you need to give your thought to analyze the status now and what to do next, with a function call to \
actually execute your step. Your output should follow this format:
Thought:
Action:
Action Input:

After the call, you will get the call result, and you are now in a new state.
Then you will analyze your status now, then decide what to do next...
After many (Thought-call) pairs, you finally perform the task, then you can give your final answer.
Remember:
1.the state change is irreversible, you can't go back to one of the former state, if you want to restart the task, \
say "I give up and restart".
2.All the thought is short, at most in 5 sentence.
3.You can do more then one try, so if your plan is to continuously try some conditions, \
you can do one of the conditions per try.
Let's Begin!
Task description: You should use functions to help handle the real time user queries. Remember:
1.ALWAYS call "Finish" function at the end of the task. And the final answer should contain enough information \
to show to the user,If you can't handle the task, or you find that function calls always fail(the function is not \
valid now), use function Finish->give_up_and_restart.
2.Do not use origin tool names, use only subfunctions' names.
Specifically, you have access to the following APIs: """


class ToolBench(ReAct):
    """ToolBench's prompt and lines."""

    stop_words: ClassVar[tuple[str, ...]] = ()

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        return _PROMPT + json_text([*functions_of(tools)])

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        return super().write(content, calls, tools).removesuffix("\nObservation:")

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", messages[0].content
