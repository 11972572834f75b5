"""Messages, tool calls and conversations: what every row becomes before it becomes tokens.

They are plain frozen dataclasses with text in them. What a model's format makes of them is the template's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from .errors import InvalidConversation

if TYPE_CHECKING:
    from .grounding import Objects

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""Anything that JSON can say."""

Role = Literal["system", "user", "assistant", "tool"]

# Weights are float32 later on, where smaller ones become 0 and larger ones drown the rest.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-6, 1e6

_MAX_DEPTH = 100  # of JSON; Python's own limit is a crash away
_MAX_INT_BITS = 4096

_ROLES = get_args(Role)
_MAY_FOLLOW: dict[str, tuple[str, ...]] = {
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


@dataclass(frozen=True)
class ToolCall:
    """A function that the assistant wants called."""

    name: str
    arguments: dict[str, JSON]
    id: str | None = None


MediaKind = Literal["image", "video", "audio"]


@dataclass(frozen=True, kw_only=True)
class Media:
    """A picture, a video or a sound inside of a message."""

    kind: MediaKind
    source: object
    """Text: a path, an http(s) address, or a data: address with base64. Bytes: the content of a file. Else decoded:
    what Pillow or numpy holds, (H, W, 3) uint8 for a picture, (frames, H, W, 3) for a video, (samples,) for a sound."""
    at: int = 0
    """Where in the message's content it stands, in characters: 0 is before the text."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn."""

    role: Role
    content: str
    media: tuple[Media, ...] = ()
    """Pictures, videos and sounds, in the order of their places in the content."""
    reasoning_content: str | None = None
    """What the assistant thought before it answered."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """For role 'tool': the call that this is the result of."""
    loss: bool | None = None
    """Assistant only: train on this answer or not; None lets the template's loss_scale decide."""
    loss_scale: float | None = None
    """Assistant only: weight of this answer's tokens; None is 1.0."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages in order, and the tools (OpenAI's JSON objects) that the assistant may call."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, JSON], ...] = ()
    objects: Objects | None = None
    """The things and boxes in its pictures that <ref-object> and <bbox> in its texts stand for."""


def is_text(conversation: Conversation) -> bool:
    """Whether a conversation is a plain text, for pre-training: one answer that nobody asked for."""
    return len(conversation.messages) == 1 and conversation.messages[0].role == "assistant"


def check_conversation(conversation: Conversation, *, prompt: bool = False) -> None:
    """Refuse a conversation that cannot be trained on, or asked.

    Args:
        conversation: what is checked.
        prompt: False wants an answer as the last message (training); True wants a question there (serving).

    Raises:
        InvalidConversation: it is empty, a role is unknown or out of order, content is not text, an answer is empty, a
            weight is out of bounds, calls or tools are not JSON, or the last message is of the wrong side. The message
            names the position, counted from 1.
    """
    messages = conversation.messages
    if not messages:
        raise InvalidConversation("a conversation has no messages; expected at least one from the user")
    previous: Message | None = None
    for position, message in enumerate(messages, start=1):
        _check_message(message, position)
        if not is_text(conversation):
            _check_order(message, previous, position)
        previous = message
    if conversation.tools:
        _check_tools(conversation.tools)
    if conversation.objects is not None:
        for at, name in enumerate(conversation.objects.refs, start=1):
            _check_text(name, f"name {at} of objects")
    last = messages[-1].role
    if last == "assistant" and len(messages) == 1:
        _check_alone(conversation, prompt=prompt)
    if prompt and last not in ("user", "tool"):
        raise InvalidConversation(
            f"message {len(messages)} (the last) is from {last!r}; to be answered, a conversation must end "
            "with a message from 'user' or 'tool'"
        )
    if not prompt and last != "assistant":
        raise InvalidConversation(
            f"message {len(messages)} (the last) is from {last!r}; to be trained on, a conversation must end "
            "with an answer from 'assistant'"
        )


def _check_message(message: Message, position: int) -> None:
    if message.role not in _ROLES:
        raise InvalidConversation(
            f"message {position} has role {message.role!r}; expected one of {', '.join(map(repr, _ROLES))}"
        )
    for name, text in (("content", message.content), ("reasoning_content", message.reasoning_content)):
        if text is not None or name == "content":
            _check_text(text, f"message {position} ({message.role}): {name}")
    if message.media:
        _check_media(message, position)
    if message.role != "assistant":
        _check_assistant_only(message, position)
    elif not message.content.strip() and not message.tool_calls and not message.media:
        raise InvalidConversation(
            f"message {position} (assistant) is empty; expected text or a tool call (leave the row out, or fill it in)"
        )
    if message.tool_calls:
        _check_calls(message.tool_calls, f"message {position} ({message.role})")
    if message.tool_call_id is not None:
        _check_text(message.tool_call_id, f"message {position} ({message.role}): tool_call_id")
    if message.loss is not None and not isinstance(message.loss, bool):
        raise InvalidConversation(f"message {position}: loss is {message.loss!r}; expected true, false or nothing")
    if message.loss_scale is not None:
        _check_weight(message.loss_scale, position)


def _check_weight(weight: object, position: int) -> None:
    number = weight if isinstance(weight, (int, float)) and not isinstance(weight, bool) else math.nan
    if number != 0 and not _SMALLEST_WEIGHT <= number <= _LARGEST_WEIGHT:
        raise InvalidConversation(
            f"message {position}: loss_scale is {weight!r}; expected 0, or {_SMALLEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}"
        )


def _check_alone(conversation: Conversation, *, prompt: bool) -> None:
    [text] = conversation.messages
    if prompt or text.tool_calls or text.media:
        raise InvalidConversation("message 1 is from 'assistant' alone; expected a question before it, or plain text")
    extra = {
        "reasoning_content": text.reasoning_content,
        "tools": conversation.tools,
        "objects": conversation.objects,
    }
    for name, value in extra.items():
        if value:
            raise InvalidConversation(
                f"message 1 is from 'assistant' alone, which is a plain text, and there is {name}, which a plain text "
                "has no place for; put a question before it, or leave that out"
            )


def _check_calls(calls: tuple[ToolCall, ...], who: str) -> None:
    for number, call in enumerate(calls, start=1):
        what = f"{who}: call {number}"
        if not isinstance(call, ToolCall):
            raise InvalidConversation(f"{what} is {type(call).__name__} {call!r:.80}; expected a ToolCall")
        _check_text(call.name, f"{what}: name")
        if call.id is not None:
            _check_text(call.id, f"{what}: id")
        if not isinstance(call.arguments, dict):
            raise InvalidConversation(
                f"{what}: arguments are {type(call.arguments).__name__} {call.arguments!r:.80}; expected a JSON object "
                "(JSON text has to be read first)"
            )
        _check_json(call.arguments, f"{what}: arguments")


def _check_tools(tools: tuple[dict[str, JSON], ...]) -> None:
    for number, tool in enumerate(tools, start=1):
        if not isinstance(tool, dict):
            raise InvalidConversation(f"tool {number} is {type(tool).__name__} {tool!r:.80}; expected a JSON object")
        _check_json(tool, f"tool {number}")


def _check_json(value: object, what: str, depth: int = 0) -> None:
    if isinstance(value, str):
        _check_text(value, what)
    elif isinstance(value, (dict, list)):
        if depth > _MAX_DEPTH:
            raise InvalidConversation(f"{what} are nested deeper than {_MAX_DEPTH} levels; expected fewer")
        if isinstance(value, dict):
            for key in value:
                _check_text(key, f"{what}: a key")
        for each in value.values() if isinstance(value, dict) else value:
            _check_json(each, what, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidConversation(f"{what} hold {value!r}, which JSON cannot say; expected a finite number")
    elif isinstance(value, int):
        if value.bit_length() > _MAX_INT_BITS:
            raise InvalidConversation(f"{what} hold a number of {value.bit_length()} bits; expected {_MAX_INT_BITS}")
    elif value is not None:
        raise InvalidConversation(f"{what} hold {type(value).__name__} {value!r:.80}; expected what JSON can say")


def _check_media(message: Message, position: int) -> None:
    places = [each.at for each in message.media]
    if places != sorted(places) or any(not 0 <= each <= len(message.content) for each in places):
        raise InvalidConversation(
            f"message {position} ({message.role}) has media at characters {places} of {len(message.content)}; "
            "expected places inside of the text, in ascending order"
        )
    for each in message.media:
        if each.kind not in get_args(MediaKind):
            raise InvalidConversation(
                f"message {position} ({message.role}) has media of kind {each.kind!r}; "
                f"expected one of {', '.join(map(repr, get_args(MediaKind)))}"
            )


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise InvalidConversation(f"{what} is {type(text).__name__} {text!r:.80}; expected text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidConversation(
                f"{what} has half of a surrogate pair ({text[error.start]!r}) at character {error.start}; "
                "expected valid Unicode"
            ) from error


def _check_assistant_only(message: Message, position: int) -> None:
    for name in ("reasoning_content", "loss", "loss_scale"):
        if getattr(message, name) is not None:
            raise InvalidConversation(f"message {position} ({message.role}) has {name}; only 'assistant' may have it")
    if message.tool_calls:
        raise InvalidConversation(f"message {position} ({message.role}) has tool_calls; only 'assistant' may have them")


def _check_order(message: Message, previous: Message | None, position: int) -> None:
    role = message.role
    if previous is None:
        if role not in ("system", "user"):
            raise InvalidConversation(f"message 1 is from {role!r}; expected 'system' or 'user' first")
    elif role == "system":
        raise InvalidConversation(f"message {position} is from 'system'; expected it first or not at all")
    elif role not in _MAY_FOLLOW[previous.role]:
        expected = " or ".join(map(repr, _MAY_FOLLOW[previous.role]))
        raise InvalidConversation(f"message {position} is from {role!r} after {previous.role!r}; expected {expected}")
    elif previous.tool_calls and role != "tool":
        raise InvalidConversation(
            f"message {position} is from {role!r} after a tool call; expected the result, from 'tool'"
        )
