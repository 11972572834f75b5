"""A list of messages, in OpenAI's words or ShareGPT's, to messages: what the formats with lists of turns share.

Calls and results may be turns of their own (`tool_call`, `tool_response`); calls in a row become one message with the
text before them, as models say them. Contents are texts or lists of parts; pictures in parts become media.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Final, Literal, cast

from swift_templates.messages import JSON, Message, Role, ToolCall

from .errors import BadRow
from .fields import from_json, get, quote, shorten, to_answer, to_list, to_object, to_text
from .media_columns import to_content

Dialect = Literal["openai", "sharegpt"]
"""How a turn says who and what: with `role` and `content`, or with `from` and `value`."""

_OWN_ROLES: Final[dict[str, Role]] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_TOOL_ROLES: Final[dict[str, Role]] = {
    "tool_call": "assistant",
    "function_call": "assistant",
    "tool_response": "tool",
    "function": "tool",
    "observation": "tool",
}
# Each dialect's words come first in a message about an unknown one.
_ROLES: Final[dict[Dialect, dict[str, Role]]] = {
    "openai": {**_OWN_ROLES, **_TOOL_ROLES, "developer": "system", "human": "user", "gpt": "assistant"},
    "sharegpt": {"human": "user", "gpt": "assistant", **_OWN_ROLES, **_TOOL_ROLES, "developer": "system"},
}
_CALL_ROLES: Final = ("tool_call", "function_call")
_KEYS: Final[dict[Dialect, tuple[str, str]]] = {"openai": ("role", "content"), "sharegpt": ("from", "value")}
_FLAGS: Final = ("loss", "train", "training")
_UNSUPPORTED: Final = {
    "train_detail": "give the turn 'train', or split it",
    "training_detail": "give the turn 'train', or split it",
    "tools": "give the row a column 'tools'",
    "functions": "give the row a column 'tools'",
}
"""Keys of a turn that change what is trained on, and what to do instead."""

_REASONING: Final = ("reasoning_content", "reasoning", "thinking")


def to_messages(value: object, *, field: str, dialect: Dialect = "openai") -> list[Message]:
    """Convert a list of turns.

    Args:
        value: what the row holds there.
        field: its name in messages, such as 'messages'.
        dialect: the keys of a turn.

    Raises:
        BadRow: it is no such list, or one of the turns is faulty.
    """
    of = "messages" if dialect == "openai" else "turns"
    items = to_list(value, field=field, of=of)
    return merge_calls(to_message(item, field=f"{field}[{index}]", dialect=dialect) for index, item in enumerate(items))


def is_turn(value: object) -> bool:
    """Return whether a value looks like one turn, of either dialect."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def is_turns(value: object) -> bool:
    """Return whether a value looks like a list of turns, of either dialect."""
    return isinstance(value, list) and bool(value) and is_turn(value[0])


def find_dialect(value: object) -> Dialect:
    """Return the dialect of a turn, or of a list of them by its first."""
    first = value[0] if isinstance(value, list) and value else value
    return "sharegpt" if isinstance(first, Mapping) and "from" in first else "openai"


def to_message(value: object, *, field: str, dialect: Dialect = "openai") -> Message:
    """Convert one turn. Raises as `to_messages` does."""
    item = to_object(value, field=field)
    role_key, content_key = _KEYS[dialect]
    name = to_text(get(item, role_key, field=field), field=f"{field}.{role_key}")
    role = _ROLES[dialect].get(name)
    if role is None:
        known = quote(_ROLES[dialect])
        raise BadRow("unknown role", f"'{field}.{role_key}' is {shorten(name)}; expected one of {known}")
    if len(item) == 2 and name not in _CALL_ROLES and isinstance(text := item.get(content_key), str):
        # The usual turn, for speed; the way below comes to the same.
        read = to_answer if role == "assistant" else to_text
        return Message(role=role, content=read(text, field=f"{field}.{content_key}"))
    if len(item) > 2:
        _refuse_unsupported(item, field=field)
    loss, loss_scale = _to_loss(item, role, field=field)
    if name in _CALL_ROLES:
        calls = _to_calls(get(item, content_key, field=field), field=f"{field}.{content_key}")
        return Message(role=role, content="", tool_calls=calls, loss=loss, loss_scale=loss_scale)
    tool_calls = _to_tool_calls(item, field=field)
    content, media = to_content(
        _get_content(item, content_key, has_calls=bool(tool_calls), field=field), field=f"{field}.{content_key}"
    )
    if role == "assistant" and not tool_calls and not media:
        to_answer(content, field=f"{field}.{content_key}")
    call_id = item.get("tool_call_id")
    return Message(
        role=role,
        content=content,
        media=media,
        reasoning_content=_to_reasoning(item, field=field),
        tool_calls=tool_calls,
        tool_call_id=None if call_id is None else to_text(call_id, field=f"{field}.tool_call_id"),
        loss=loss,
        loss_scale=loss_scale,
    )


def merge_calls(messages: Iterable[Message]) -> list[Message]:
    """Join each message of calls without text to the assistant's message before it."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        if last is None or not message.tool_calls or message.content or last.role != "assistant":
            merged.append(message)
            continue
        if (message.loss, message.loss_scale) not in ((None, None), (last.loss, last.loss_scale)):
            raise BadRow(
                "invalid value",
                f"message {len(merged) + 1} is a tool call with other loss or loss_scale than the answer before it; "
                "they become one message, so give both the same",
            )
        merged[-1] = dataclasses.replace(last, tool_calls=last.tool_calls + message.tool_calls)
    return merged


def _get_content(item: Mapping[str, object], key: str, *, has_calls: bool, field: str) -> object:
    # Beside tool calls, OpenAI's format has null or nothing at all.
    if has_calls and item.get(key) is None:
        return ""
    return get(item, key, field=field)


def _to_reasoning(item: Mapping[str, object], *, field: str) -> str | None:
    for name in _REASONING:
        if item.get(name) is not None:
            return to_text(item[name], field=f"{field}.{name}")
    return None


def _to_loss(item: Mapping[str, object], role: Role, *, field: str) -> tuple[bool | None, float | None]:
    loss, loss_scale = _find_flag(item, field=field), item.get("loss_scale")
    if loss is None and item.get("weight") is not None and role == "assistant":
        # OpenAI's fine-tuning files say it as 0 or 1.
        loss = _to_openai_weight(item["weight"], field=f"{field}.weight")
    if loss is None and loss_scale is None:
        return None, None
    if role != "assistant":
        if loss in (None, False) and loss_scale in (None, 0):
            # That a question is not trained on needs no saying.
            return None, None
        raise BadRow("invalid value", f"{field!r} is from {role!r} and has loss or loss_scale; only answers may")
    return loss, _to_weight(loss_scale, field=f"{field}.loss_scale")


def _refuse_unsupported(item: Mapping[str, object], *, field: str) -> None:
    for key, remedy in _UNSUPPORTED.items():
        if item.get(key):
            raise BadRow("not supported yet", f"{field!r} has {key!r} of its own; {remedy}")


def _find_flag(item: Mapping[str, object], *, field: str) -> bool | None:
    """Return whether a turn is trained on, which Axolotl says in other words than we."""
    given = {key: flag for key in _FLAGS if (flag := _to_flag(item.get(key), field=f"{field}.{key}")) is not None}
    if len(set(given.values())) > 1:
        raise BadRow("ambiguous columns", f"{field!r} has {quote(given)}, which contradict each other; keep one")
    return next(iter(given.values()), None)


def _to_openai_weight(value: object, *, field: str) -> bool:
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected 0 or 1 (for others, use loss_scale)")


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


def _to_calls(value: object, *, field: str) -> tuple[ToolCall, ...]:
    """Convert the content of a turn of calls: JSON of a call, or of a list of them."""
    if isinstance(value, str):
        decoded = from_json(value, opening="[" if value.lstrip().startswith("[") else "{")
        if isinstance(decoded, str):
            raise BadRow(
                "invalid value", f"{field!r} is {shorten(value)}; expected JSON of a call, with 'name' and 'arguments'"
            )
        value = decoded
    if isinstance(value, list):
        return tuple(_to_function(call, field=f"{field}[{index}]") for index, call in enumerate(value))
    return (_to_function(value, field=field),)


def _to_tool_calls(item: Mapping[str, object], *, field: str) -> tuple[ToolCall, ...]:
    function = item.get("function_call")
    if function is not None:
        # OpenAI's older key, for one call.
        return (_to_function(function, field=f"{field}.function_call"),)
    value = item.get("tool_calls")
    if value is None or value in ([], "", "[]", "null"):
        return ()
    calls = to_list(value, field=f"{field}.tool_calls", of="tool calls")
    return tuple(_to_tool_call(call, field=f"{field}.tool_calls[{index}]") for index, call in enumerate(calls))


def _to_tool_call(value: object, *, field: str) -> ToolCall:
    item = to_object(value, field=field)
    call_id = None if item.get("id") is None else to_text(item["id"], field=f"{field}.id")
    if "function" not in item and "name" in item:
        # Many sets have the function alone.
        return _to_function(item, field=field, call_id=call_id)
    return _to_function(get(item, "function", field=field), field=f"{field}.function", call_id=call_id)


def _to_function(value: object, *, field: str, call_id: str | None = None) -> ToolCall:
    function = to_object(value, field=field)
    name = to_text(get(function, "name", field=field), field=f"{field}.name")
    if function.keys() <= {"name", "id", "type"}:
        # Tables in columns cannot tell null from a key that is not there.
        function = {**function, "arguments": None}
    arguments = get(function, "arguments", field=field)
    if arguments is None or arguments == "":
        # A function that takes none.
        arguments = {}
    if isinstance(arguments, str):
        # OpenAI's format has the arguments as JSON inside of a text.
        decoded = from_json(arguments, opening="{")
        if isinstance(decoded, str):
            raise BadRow("invalid value", f"'{field}.arguments' is not JSON of an object: {shorten(arguments)}")
        arguments = decoded
    # A source's values are JSON.
    checked = cast("dict[str, JSON]", dict(to_object(arguments, field=f"{field}.arguments")))
    return ToolCall(name=name, arguments=checked, id=call_id)
