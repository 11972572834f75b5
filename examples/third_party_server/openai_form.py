"""OpenAI's chat messages to those of swift-templates and back; a server of your own has most of this already."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from swift_templates import Message, Template, ToolCall
from swift_templates.reasoning import CLOSE, OPEN, split_reasoning


def read_message(raw: dict[str, Any]) -> Message:
    """Turn a message of OpenAI's into one of ours.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: it is none, or has more than text.
    """
    called = [(each["function"], each.get("id")) for each in raw.get("tool_calls") or ()]
    calls = tuple(ToolCall(each["name"], dict(json.loads(each["arguments"])), name) for each, name in called)
    texts = {name: raw[name] for name in ("reasoning_content", "tool_call_id") if name in raw}
    # Null is what clients send beside a call.
    content = raw.get("content") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    return Message(role=raw["role"], content=content, tool_calls=calls, **texts)


def write_message(message: Message) -> dict[str, Any]:
    """Turn an answer into OpenAI's form."""
    calls = [
        {
            "index": index,
            # Where the model writes no ids, parsing counts; nine letters and digits suit every chat template.
            "id": uuid4().hex[:9] if (call.id or "call_").startswith("call_") else call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for index, call in enumerate(message.tool_calls)
    ]
    parts = {"reasoning_content": message.reasoning_content, "tool_calls": calls}
    return {"role": "assistant", "content": message.content or None} | {k: part for k, part in parts.items() if part}


def wrap(
    choice: dict[str, Any], num_prompt: int, num_answer: int, *, kind: str = "chat.completion", name: str | None = None
) -> dict[str, Any]:
    """Put an answer, or what is added to one, into what OpenAI sends."""
    usage = {"prompt_tokens": num_prompt, "completion_tokens": num_answer, "total_tokens": num_prompt + num_answer}
    head = {"id": name or f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time())}
    return head | {"choices": [{"index": 0} | choice], "usage": usage}


def refusal(message: str, *, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Put an error into what OpenAI sends."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class StreamedAnswer:
    """An answer in pieces.

    Args:
        template: the model's.
        tools: those that the model was told of. With any, text waits for the end, since it may become a call.
        num_prompt: how many tokens the prompt has.
        opened: the prompt ended inside of the thinking.
    """

    def __init__(self, template: Template, tools: Sequence[dict[str, Any]], *, num_prompt: int, opened: bool) -> None:
        self._template, self._tools, self._opened = template, tools, opened
        self._name, self._num_prompt = f"chatcmpl-{uuid4().hex}", num_prompt
        self._taken: list[int] = []
        self._sent = {"reasoning_content": 0, "content": 0}
        self._reason = "stop"

    def chunks(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield what OpenAI sends: thinking and text as they are made, calls and the reason when all is there.

        Args:
            lines: the backend's events.
        """
        text = ""
        for piece in self._template.stream_text(self._read(lines)):
            text += piece
            if not self._tools:
                yield from self._add(*split_reasoning(_settled(text), opened=self._opened))
        whole = self._template.parse(self._taken, self._tools)
        yield from self._add(whole.reasoning_content, whole.content)
        if whole.tool_calls:
            self._reason = "tool_calls"
            yield self._chunk({"tool_calls": write_message(whole)["tool_calls"]})
        yield self._chunk({}, self._reason)

    def _read(self, lines: Iterable[str]) -> Iterator[int]:
        for line in lines:
            for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
                self._reason = choice.get("finish_reason") or "stop"
                for token in choice["token_ids"]:
                    self._taken.append(token)
                    yield token

    def _add(self, reasoning: str | None, content: str) -> Iterator[dict[str, Any]]:
        for name, text in (("reasoning_content", reasoning or ""), ("content", content)):
            if len(text) > self._sent[name]:
                yield self._chunk({name: text[self._sent[name] :]})
                self._sent[name] = len(text)

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"delta": delta, "finish_reason": reason}
        return wrap(choice, self._num_prompt, len(self._taken), kind="chat.completion.chunk", name=self._name)


def _settled(text: str) -> str:
    """Return a text without an end that may become <think> or </think>."""
    sizes = range(len(CLOSE) - 1, 0, -1)
    held = next((size for size in sizes if any(text.endswith(mark[:size]) for mark in (OPEN, CLOSE))), 0)
    settled = text[: len(text) - held]
    # White space may stand before the first mark.
    return settled if settled.strip() else ""
