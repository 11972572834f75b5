r"""Mistral, up to its third tokenizer (7B v0.3, Nemo, Small 3): a JSON list of calls that have ids.

The tools; Mistral has them before the last question, a rewritten conversation in its system prompt:

    [AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "get_weather", ...}}][/AVAILABLE_TOOLS]

The assistant says and calls:

    Let me see.[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "Xq3bA91Zt"}]

The results are one 'tool' message without marks of a turn:

    [TOOL_RESULTS] {"content": "21 degrees", "call_id": "Xq3bA91Zt"}[/TOOL_RESULTS]

Ids have nine letters or digits; one that has not is written as nine digits of its SHA-256, in the call as in its
result. Newer tokenizers write each call as [TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}, with [CALL_ID] and the id
before [ARGS] in some, which is read, too. Source: mistral-common, InstructTokenizerV3, and the chat template of
Mistral-Small-3.1. A result that is JSON is written as JSON, else as a text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import JSON, Message, Role, ToolCall
from ._events import Broken, Steps
from ._reader import Reader, load_json
from ._tools import Tool, check_tools

_MARKS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
_PATTERN = re.compile(re.escape("[TOOL_CALLS]"))
_ID = re.compile(r"[a-zA-Z0-9]{9}\Z")


class Mistral(Dialect):
    """A JSON list of calls."""

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        check_tools(tools)
        return f"[AVAILABLE_TOOLS] {json_text([*tools])}[/AVAILABLE_TOOLS]"

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        listed: list[JSON] = []
        for position, call in enumerate(calls):
            call_id = _nine(call.id or f"call_{position}")
            listed.append({"name": call.name, "arguments": dict(call.arguments), "id": call_id})
        return f"{content}[TOOL_CALLS] {json_text(listed, _MARKS)}"

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        while (yield from reader.text_until(_PATTERN, ("[TOOL_CALLS]",))):
            yield from reader.skip_space()
            if not (yield from reader.begins_with("[")):
                yield from self._read_named(reader)
                continue
            while True:
                yield from reader.skip_space()
                # The id comes last, and a stream tells it first.
                arguments = yield from reader.call_object(
                    name_keys=("name",), argument_keys=("arguments", "parameters"), id_keys=("id",), id_last=True
                )
                yield from reader.finish_call(arguments)
                yield from reader.skip_space()
                if (yield from reader.expect("]", ",")) == "]":
                    break

    def _read_named(self, reader: Reader) -> Steps[None]:
        name, mark = yield from reader.until("[ARGS]", "[CALL_ID]", "{")
        call_id = None
        if mark == "[CALL_ID]":
            call_id = (yield from reader.until("[ARGS]"))[0].strip()
        elif mark == "{":
            reader.at -= 1
        index = yield from reader.start_call(name.strip(), call_id)
        arguments = yield from reader.arguments(index)
        yield from reader.finish_call(arguments)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        texts = []
        for position, each in enumerate(messages):
            call_id = _nine(each.tool_call_id or f"call_{position}")
            result = json_text({"content": _json_or_text(each.content), "call_id": call_id}, _MARKS)
            texts.append(f"[TOOL_RESULTS] {result}[/TOOL_RESULTS]")
        return "tool", "".join(texts)


def _json_or_text(content: str) -> JSON:
    try:
        return load_json(content)
    except Broken:
        return content


def _nine(call_id: str) -> str:
    return call_id if _ID.match(call_id) else hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]
