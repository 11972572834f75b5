r"""Qwen 3 Coder: each argument in a tag of its own, several lines long if need be.

The system prompt ends with:

    # Tools

    You have access to the following functions:

    <tools>
    <function>
    <name>get_weather</name>
    <description>Get the weather.</description>
    <parameters>
    <parameter>
    <name>city</name>
    <type>string</type>
    <description>The city.</description>
    </parameter>
    <required>["city"]</required>
    </parameters>
    </function>
    </tools>

    If you choose to call a function ONLY reply in the following format with NO suffix:
    ...

The assistant says and calls:

    Let me see.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
    </tool_call>

Text, numbers, True, False and None are written bare, lists and objects as JSON. The results come from the user:

    <tool_response>
    21 degrees
    </tool_response>

Each result ends with a newline. Source: the chat template of Qwen3-Coder. Deviation: it takes white space away around
the content, which is kept here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ..dialect import Dialect, json_text
from ..messages import JSON, Message, Role, ToolCall
from ._events import ArgumentsDelta, Broken, Steps
from ._reader import Reader
from ._tools import Tool, functions_of
from ._typed_values import bare_text, value_of

_MARKERS = ("\n\n<tool_call>", "\n<tool_call>", "<tool_call>")
_PATTERN = re.compile("|".join(_MARKERS))
_MARKS = ("<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>")
_FORMAT = """

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""


class Qwen3Coder(Dialect):
    """Arguments in tags."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        text = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
        return text + "".join(map(_function, functions_of(tools))) + "\n</tools>" + _FORMAT

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        texts = [f"{content}\n"] if content else []
        for call in calls:
            lines = ["<tool_call>", f"<function={call.name}>"]
            for key, value in call.arguments.items():
                bare = str(value) if isinstance(value, bool) or value is None else bare_text(value, _MARKS)
                lines += [f"<parameter={key}>", bare, "</parameter>"]
            texts.append("\n".join([*lines, "</function>", "</tool_call>"]))
        return "\n".join(texts)

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while (yield from reader.text_until(_PATTERN, _MARKERS)):
            yield from reader.skip_space()
            yield from reader.expect("<function=")
            name, _ = yield from reader.until(">")
            index = yield from reader.start_call(name)
            arguments: dict[str, JSON] = {}
            while True:
                yield from reader.skip_space()
                if (yield from reader.expect("<parameter=", "</function>")) == "</function>":
                    break
                key, _ = yield from reader.until(">")
                if key in arguments:
                    raise Broken(f"a call of {name!r} has the argument {key!r} twice")
                text, _ = yield from reader.until("</parameter>")
                arguments[key] = value_of(text.removeprefix("\n").removesuffix("\n"), tools, name, key)
            yield from reader.skip_space()
            yield from reader.expect("</tool_call>")
            yield ArgumentsDelta(index, json_text(dict(arguments)))
            yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "user", "".join(f"<tool_response>\n{each.content}\n</tool_response>\n" for each in messages)


def _function(function: Tool) -> str:
    lines = ["", "<function>", f"<name>{function['name']}</name>"]
    if "description" in function:
        lines.append(f"<description>{str(function['description']).strip()}</description>")
    lines.append("<parameters>")
    schema = function.get("parameters")
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties")
    for name, fields in (properties if isinstance(properties, dict) else {}).items():
        lines += ["<parameter>", f"<name>{name}</name>"]
        known = fields if isinstance(fields, dict) else {}
        if "type" in known:
            lines.append(f"<type>{known['type']}</type>")
        if "description" in known:
            lines.append(f"<description>{str(known['description']).strip()}</description>")
        lines += [*_others(known, ("name", "type", "description")), "</parameter>"]
    lines += [*_others(schema, ("type", "properties")), "</parameters>"]
    lines += [*_others(function, ("type", "name", "description", "parameters")), "</function>"]
    return "\n".join(lines)


def _others(fields: Tool, known: Collection[str]) -> list[str]:
    return [
        f"<{key}>{json_text(value) if isinstance(value, (dict, list)) else value}</{key}>"
        for key, value in fields.items()
        if key not in known
    ]
