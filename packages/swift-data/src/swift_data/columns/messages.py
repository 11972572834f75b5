"""Messages, as in OpenAI's fine-tuning files: a list of objects with `role` and `content`.

    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}

A message may have `reasoning_content`, `tool_calls` and `tool_call_id` too, and one from the assistant `loss` (true or
false: train on it) and `loss_scale` (the weight of its tokens).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import cast, get_args

from swift_templates.messages import JSON, Message, Role, ToolCall

from ..column_format import ColumnFormat, Layout
from ..errors import BadRow
from ..fields import get, quote, shorten, to_answer, to_list, to_object, to_text

_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}


class Messages(ColumnFormat):
    """A column of messages."""

    layouts = (Layout(("messages",)),)
    examples = (
        {"messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]},
        {
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "Capital of France?"},
                {"role": "assistant", "content": "Paris", "loss": False},
                {"role": "user", "content": "And of Spain?"},
                {"role": "assistant", "content": "Madrid", "reasoning_content": "Its capital.", "loss_scale": 2},
            ]
        },
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the list message by message."""
        (name,) = layout.prompt
        items = to_list(columns[name], field=name, of="messages")
        return [_to_message(item, field=f"{name}[{index}]") for index, item in enumerate(items)]


def _to_message(value: object, *, field: str) -> Message:
    item = to_object(value, field=field)
    name = to_text(get(item, "role", field=field), field=f"{field}.role")
    role = _ROLES.get(name)
    if role is None:
        raise BadRow("unknown role", f"'{field}.role' is {shorten(name)}; expected one of {quote(_ROLES)}")
    tool_calls = _to_tool_calls(item.get("tool_calls"), field=f"{field}.tool_calls")
    reasoning, call_id = item.get("reasoning_content"), item.get("tool_call_id")
    loss, loss_scale = item.get("loss"), item.get("loss_scale")
    if (loss is not None or loss_scale is not None) and role != "assistant":
        raise BadRow("invalid value", f"{field!r} is from {role!r} and has loss or loss_scale; only answers may")
    return Message(
        role=role,
        content=_to_content(item, field=field, is_answer=role == "assistant" and not tool_calls),
        reasoning_content=None if reasoning is None else to_text(reasoning, field=f"{field}.reasoning_content"),
        tool_calls=tool_calls,
        tool_call_id=None if call_id is None else to_text(call_id, field=f"{field}.tool_call_id"),
        loss=_to_flag(loss, field=f"{field}.loss"),
        loss_scale=_to_weight(loss_scale, field=f"{field}.loss_scale"),
    )


def _to_content(item: Mapping[str, object], *, field: str, is_answer: bool) -> str:
    if is_answer:
        return to_answer(get(item, "content", field=field), field=f"{field}.content")
    # Beside tool calls, OpenAI's format has null or nothing at all.
    if item.get("content") is None and item.get("tool_calls"):
        return ""
    return to_text(get(item, "content", field=field), field=f"{field}.content")


def _to_flag(value: object, *, field: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected true or false")


def _to_weight(value: object, *, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected a number that is not negative")
    return float(value)


def _to_tool_calls(value: object, *, field: str) -> tuple[ToolCall, ...]:
    if value is None or value == []:
        return ()
    items = to_list(value, field=field, of="tool calls")
    return tuple(_to_tool_call(item, field=f"{field}[{index}]") for index, item in enumerate(items))


def _to_tool_call(value: object, *, field: str) -> ToolCall:
    item = to_object(value, field=field)
    call_id = item.get("id")
    function = to_object(get(item, "function", field=field), field=f"{field}.function")
    name = to_text(get(function, "name", field=f"{field}.function"), field=f"{field}.function.name")
    arguments = get(function, "arguments", field=f"{field}.function")
    if isinstance(arguments, str):
        # OpenAI's format has the arguments as JSON inside of a text.
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise BadRow("invalid value", f"'{field}.function.arguments' is not JSON: {error}") from error
    # A source's values are JSON.
    checked = cast("dict[str, JSON]", dict(to_object(arguments, field=f"{field}.function.arguments")))
    return ToolCall(name=name, arguments=checked, id=None if call_id is None else to_text(call_id, field=f"{field}.id"))
