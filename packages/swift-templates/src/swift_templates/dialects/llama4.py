r"""Llama 4 (and Llama 3.2's small models): calls as Python would write them, in a list.

The system prompt ends with:

    Here is a list of functions in JSON format that you can invoke. Use exact format:
    [func_name1(param1=value1, param2=value2), func_name2(...)] (on one line)
    [
        {
            "type": "function",
            "function": {...}
        }
    ]

The assistant calls, without a word beside:

    [get_weather(city="Paris", days=3), get_time()]

<|python_start|> and <|python_end|> around it are read, too. The results are one 'tool' message, Llama's ipython, each
as a JSON text:

    "21 degrees"

Source: Meta's prompt format of Llama 4, and vLLM's tool_chat_template_llama4_pythonic.jinja. Deviation: that writes
every argument between quotes; here a number is a number, as the prompt's "proper Python/JSON syntax" has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import JSON, Message, Role, ToolCall
from ._events import ArgumentsDelta, Broken, Steps
from ._python_values import python_text, read_python
from ._reader import Reader
from ._tools import Tool, check_tools

_START, _END = "<|python_start|>", "<|python_end|>"
_NAME = re.compile(r"[^\W\d][\w.\-]*\Z")
_BEGINNING = re.compile(r"\s*(?:\[\s*(?:[^\W\d][\w.\-]*(?P<open>\()?)?)?")
_LONGEST_NAME = 256


class Llama4(Dialect):
    """A list of calls in Python's syntax."""

    text_beside_calls = False
    between = "\n"

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        return (
            "Here is a list of functions in JSON format that you can invoke. Use exact format: "
            f"[func_name1(param1=value1, param2=value2), func_name2(...)]\n{json_text([*tools], indent=4)}\n"
        )

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        written = []
        for call in calls:
            given = ", ".join(f"{key}={python_text(value, (_START, _END))}" for key, value in call.arguments.items())
            written.append(f"{call.name}({given})")
        return f"[{', '.join(written)}]"

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        tagged = yield from reader.begins_with(_START)
        if not tagged and not (yield from self._is_call(reader)):
            return
        yield from reader.skip_space()
        yield from reader.expect("[")
        while True:
            yield from reader.skip_space()
            name, _ = yield from reader.until("(")
            if not _NAME.match(name):
                raise Broken(f"a call has {name!r:.80} as its name; expected the name of a function")
            index = yield from reader.start_call(name)
            arguments = yield from self._arguments(reader)
            yield ArgumentsDelta(index, json_text(dict(arguments)))
            yield from reader.finish_call(arguments)
            yield from reader.skip_space()
            if (yield from reader.expect("]", ",")) == "]":
                break
        if (yield from reader.skip_space()) and (yield from reader.begins_with(_END)):
            yield from reader.skip_space()
        if (yield from reader.skip_space()):
            raise Broken("the answer goes on after its calls; expected its end")

    def _is_call(self, reader: Reader) -> Steps[bool]:
        """Say whether the answer begins with a bracket, a name and a parenthesis."""
        while True:
            found = _BEGINNING.match(reader.text)
            # It matches the empty text, too.
            assert found is not None
            if found.end() > _LONGEST_NAME:
                return False
            if found["open"]:
                return True
            if reader.ended or found.end() < len(reader.text):
                return False
            yield None

    def _arguments(self, reader: Reader) -> Steps[dict[str, JSON]]:
        arguments: dict[str, JSON] = {}
        yield from reader.skip_space()
        if (yield from reader.begins_with(")")):
            return arguments
        while True:
            yield from reader.skip_space()
            key = (yield from reader.until("="))[0].strip()
            if not key.isidentifier() or key in arguments:
                raise Broken(f"a call has the argument {key!r:.80}; expected a name that no other argument has")
            arguments[key] = yield from read_python(reader)
            yield from reader.skip_space()
            if (yield from reader.expect(")", ",")) == ")":
                return arguments

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(json_text(each.content) for each in messages)
