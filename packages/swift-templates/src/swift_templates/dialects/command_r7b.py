r"""Command R7B and Command A: a JSON list of actions.

The system prompt ends with:

    ## Available Tools
    Here is the list of tools that you have available to you.
    You can ONLY use the tools listed here. When a tool is not listed below, it is NOT available and you should NEVER
    attempt to use it. (on one line)
    Each tool is represented as a JSON object with fields like "name", "description", "parameters" (per JSON Schema),
    and optionally, "responses" (per JSON Schema). (on one line)

    ```json
    [
        {"name": "get_weather", "description": "...", "parameters": {...}, "responses": null}
    ]
    ```

The assistant plans and calls; the plan, with <|START_THINKING|> and <|END_THINKING|>, is the message's content:

    <|START_ACTION|>[
        {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}
    ]<|END_ACTION|>

The results are one 'tool' message, which Cohere puts into a system turn:

    <|START_TOOL_RESULT|>[
        {
            "tool_call_id": "0",
            "results": {
                "0": "21 degrees"
            },
            "is_error": null
        }
    ]<|END_TOOL_RESULT|>

Source: the chat template of c4ai-command-r7b-12-2024 for tool use. Deviation: it counts calls through the whole
conversation; here an id is kept if it is a number, and counted in its own answer if not. The older Command R has
another format, which is not this one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Steps
from ._reader import Reader
from ._tools import Tool, functions_of

_OPEN, _CLOSE = "<|START_ACTION|>", "<|END_ACTION|>"
_RESULT, _RESULT_END = "<|START_TOOL_RESULT|>", "<|END_TOOL_RESULT|>"
_MARKS = (_OPEN, _CLOSE, _RESULT, _RESULT_END)
_PATTERN = re.compile(re.escape(_OPEN))


class CommandR7B(Dialect):
    """A JSON list of actions."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        listed = ",\n".join(
            f'    {{"name": {json_text(each["name"])}, "description": {json_text(each.get("description") or "")}, '
            f'"parameters": {json_text(each.get("parameters") or {})}, "responses": null}}'
            for each in functions_of(tools)
        )
        return (
            "## Available Tools\nHere is the list of tools that you have available to you.\n"
            "You can ONLY use the tools listed here. When a tool is not listed below, it is NOT available and you "
            "should NEVER attempt to use it.\n"
            'Each tool is represented as a JSON object with fields like "name", "description", "parameters" (per JSON '
            'Schema), and optionally, "responses" (per JSON Schema).\n\n'
            f"```json\n[\n{listed}\n]\n```"
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        lines = []
        for position, call in enumerate(calls):
            call_id, name = _number(call.id, position), json_text(call.name, _MARKS)
            arguments = json_text(dict(call.arguments), _MARKS)
            lines.append(f'    {{"tool_call_id": "{call_id}", "tool_name": {name}, "parameters": {arguments}}}')
        return content + _OPEN + "[\n" + ",\n".join(lines) + "\n]" + _CLOSE

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while (yield from reader.text_until(_PATTERN, (_OPEN,))):
            yield from reader.skip_space()
            yield from reader.expect("[")
            while True:
                yield from reader.skip_space()
                arguments = yield from reader.call_object(
                    name_keys=("tool_name", "name"),
                    argument_keys=("parameters", "arguments"),
                    id_keys=("tool_call_id",),
                )
                yield from reader.finish_call(arguments)
                yield from reader.skip_space()
                if (yield from reader.expect("]", ",")) == "]":
                    break
            if (yield from reader.skip_space()):
                yield from reader.expect(_CLOSE)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        results = ",\n".join(
            f'    {{\n        "tool_call_id": "{_number(each.tool_call_id, position)}",\n'
            f'        "results": {{\n            "0": {json_text(each.content, _MARKS)}\n        }},\n'
            '        "is_error": null\n    }'
            for position, each in enumerate(messages)
        )
        return "tool", f"{_RESULT}[\n{results}\n]{_RESULT_END}"


def _number(call_id: str | None, position: int) -> str:
    return call_id if call_id is not None and call_id.isdecimal() and call_id.isascii() else str(position)
