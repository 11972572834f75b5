"""Glaive function calling v2: dialogues as one text each, with functions in the system prompt.

The text is taken apart into messages, calls and results; the functions become tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ..dataset_card import DatasetCard
from ..errors import BadRow
from ..fields import get, shorten, to_text
from ..strict_json import DECODER

_SPEAKER = re.compile(r"\s*\b(USER|ASSISTANT|FUNCTION RESPONSE): ")
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool_response"}
_CALL = "<functioncall>"
_END = "<|endoftext|>"
# The arguments of a call are JSON in single quotes, inside of JSON.
_ARGUMENTS = re.compile(r"'(\{.*\})'", re.DOTALL)


def _take_apart(raw: Mapping[str, object]) -> dict[str, object]:
    chat = to_text(get(raw, "chat", field="the row"), field="chat")
    system = to_text(get(raw, "system", field="the row"), field="system").removeprefix("SYSTEM: ")
    before, *turns = _SPEAKER.split(chat.strip())
    if before.strip() or not turns:
        raise BadRow("invalid value", f"'chat' is {shorten(chat)}; expected turns of 'USER:' and 'ASSISTANT:'")
    messages = [
        message
        for who, said in zip(turns[::2], turns[1::2], strict=True)
        for message in _to_messages(who, said.replace(_END, "").strip())
    ]
    tools = list(_find_tools(system))
    return {"messages": messages, "tools": tools} if tools else {"messages": messages, "system": system.strip()}


def _to_messages(who: str, said: str) -> Iterator[dict[str, str]]:
    text, mark, call = said.partition(_CALL)
    if text.strip() or not mark:
        yield {"role": _ROLES[who], "content": text.strip()}
    if mark:
        call = _ARGUMENTS.sub(lambda match: json.dumps(match[1].replace("\\'", "'")), call.strip(), count=1)
        yield {"role": "tool_call", "content": call}


def _find_tools(system: str) -> Iterator[object]:
    end = 0
    while (start := system.find("{", end)) >= 0:
        try:
            tool, end = DECODER.raw_decode(system, start)
        except ValueError as error:
            raise BadRow("invalid value", f"'system' describes a function, but not in JSON: {error}") from error
        yield tool


GLAIVE_FUNCTION_CALLING = DatasetCard(
    name="glaive_function_calling",
    description="Dialogues with calls of functions, as texts.",
    kind="agent",
    language=("en",),
    licence="Apache-2.0",
    hf_id="glaiveai/glaive-function-calling-v2",
    prepare=_take_apart,
    examples=(
        {
            "system": 'SYSTEM: You may use these functions -\n{"name": "lamp", "parameters": {"type": "object"}}\n',
            "chat": (
                "USER: Is the top light on?\n\n\n"
                'ASSISTANT: <functioncall> {"name": "lamp", "arguments": \'{"room": "top"}\'} <|endoftext|>\n\n\n'
                'FUNCTION RESPONSE: {"on": true}\n\n\nASSISTANT: Yes, it is on. <|endoftext|>\n\n\n'
            ),
        },
        {
            "system": "SYSTEM: You are a helpful assistant, with no access to external functions.",
            "chat": "USER: How high is it?\n\n\nASSISTANT: Forty-one metres. <|endoftext|>\n\n\n",
        },
    ),
)
