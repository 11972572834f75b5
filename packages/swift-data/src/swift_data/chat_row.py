"""A chat row, and how a raw row becomes one: columns renamed, format found, conversation checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from swift_templates.errors import InvalidConversation
from swift_templates.messages import JSON, Conversation, Message, check_conversation

from .column_format import Answers, find_format
from .errors import BadRow
from .fields import shorten, to_list, to_object, to_text
from .source import Origin

# Training on the words alone would teach a model to guess at pictures.
_MEDIA_COLUMNS = ("image", "images", "video", "videos", "audio", "audios", "objects")


@dataclass(frozen=True, kw_only=True)
class ChatRow:
    """A conversation to train on or to ask.

    Attributes:
        conversation: its messages and tools.
        origin: where it came from.
        solution: what a right answer contains, for rewards and metrics; None where the row has no such column.
    """

    conversation: Conversation
    origin: Origin
    solution: str | None = None


def to_row(
    raw: Mapping[str, object],
    *,
    origin: Origin,
    columns: Mapping[str, str] | None = None,
    answers: Answers = "required",
) -> ChatRow:
    """Convert a raw row by the names of its columns; null columns count as missing, unknown ones are ignored.

    Args:
        raw: the row as its file has it.
        origin: where it came from.
        columns: its names to ours.
        answers: 'required' takes a row that ends with an answer; 'optional' also one that ends with a question.

    Raises:
        BadRow: it cannot be used.
    """
    try:
        return _convert(_rename(raw, columns or {}), origin, answers)
    except BadRow as error:
        raise BadRow(error.reason, error.problem, origin) from error.__cause__


def _rename(raw: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    renamed: dict[str, object] = {}
    for name, value in raw.items():
        if value is None:
            continue
        target = columns.get(name, name)
        if target in renamed:
            raise BadRow("ambiguous columns", f"two columns are called {target!r} after renaming; rename one only")
        renamed[target] = value
    return renamed


def _convert(columns: Mapping[str, object], origin: Origin, answers: Answers) -> ChatRow:
    for name in _MEDIA_COLUMNS:
        if columns.get(name):
            raise BadRow("not supported yet", f"the row has {name!r}; only text is supported yet")
    column_format, layout = find_format(columns, answers=answers)
    messages = (*_to_system(columns.get("system")), *column_format.to_messages(columns, layout))
    conversation = Conversation(messages=messages, tools=_to_tools(columns.get("tools")))
    ends_with_answer = bool(messages) and messages[-1].role == "assistant"
    if messages and not ends_with_answer and answers == "required":
        raise BadRow("no answer", f"the last message is from {messages[-1].role!r}; expected an answer to train on")
    try:
        check_conversation(conversation, prompt=not ends_with_answer and answers == "optional")
    except InvalidConversation as error:
        # Formats check their fields, so what is left is the order.
        raise BadRow("wrong role order", str(error)) from error
    solution = columns.get("solution")
    return ChatRow(
        conversation=conversation,
        origin=origin,
        solution=None if solution is None else to_text(solution, field="solution"),
    )


def _to_system(value: object) -> tuple[Message, ...]:
    # Many data sets write "" where a row has no system prompt.
    text = "" if value is None else to_text(value, field="system")
    return (Message(role="system", content=text),) if text else ()


def _to_tools(value: object) -> tuple[dict[str, JSON], ...]:
    if not value:
        return ()
    if isinstance(value, str):
        # Many data sets have the tools as JSON inside of a text.
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("invalid value", f"'tools' is {shorten(value)}, which is not JSON: {error}") from error
    tools = to_list(value, field="tools", of="tools")
    # A source's values are JSON; what a tool must have is the template's business.
    return tuple(
        cast("dict[str, JSON]", dict(to_object(tool, field=f"tools[{index}]"))) for index, tool in enumerate(tools)
    )
