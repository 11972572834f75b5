"""A row, and how a raw row becomes one: columns renamed, format found, media placed, conversation checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from swift_templates.errors import InvalidConversation
from swift_templates.messages import JSON, Conversation, Message, check_conversation

from .column_format import ALIASES, COMPANIONS, Answers, ColumnFormat, Layout, find_format
from .errors import BadRow
from .fields import from_json, quote, rename, shorten, to_list, to_object, to_solution, to_text, to_word, write_number
from .media_columns import MEDIA_COLUMNS, place_media, read_media
from .object_columns import read_objects, to_objects
from .rejected_columns import count_shared, read_rejected
from .source import Origin
from .unread_columns import note_unread

_TRUE: Final = ("true", "1", "1.0")
_FALSE: Final = ("false", "0", "0.0")
_NUMBERED: Final = "answer"
"""The column of answers that sets of problems write as numbers."""


@dataclass(frozen=True, kw_only=True)
class ChatRow:
    """A conversation to train on or to ask, with what the row says about it.

    One class serves every kind of row, so that a set for one purpose can be used for another:

    - chat: a conversation that ends with an answer;
    - prompt: one that ends with a question; `solution` and `extras` are what rewards look at;
    - preference: `rejected` is the worse answer;
    - kto: `label` says whether the answer is a good one;
    - text: a single message from the assistant, all of which is trained on.

    Attributes:
        conversation: its messages and tools; of a pair, the one with the better answer.
        origin: where it came from.
        solution: what a right answer contains, for rewards and metrics; None where the row has no such column.
        rejected: the messages with the worse answer, after the prompt that both share; () where there is none.
        num_shared: how many messages the shared prompt has; 0 where nothing is rejected.
        label: whether the answer is a good one; None where the row does not say, or says something else than yes or no
            (a class, a number: that is in `extras`).
        channel: the part of a mixture that the row belongs to, whose loss is told apart.
        objects: things and boxes in the pictures for the texts' `<ref-object>` and `<bbox>`, as the row has them.
        extras: all other columns, as the source has them.
    """

    conversation: Conversation
    origin: Origin
    solution: str | None = None
    rejected: tuple[Message, ...] = ()
    num_shared: int = 0
    label: bool | None = None
    channel: str | None = None
    objects: Mapping[str, JSON] | None = field(default=None, hash=False)
    extras: Mapping[str, JSON] = field(default_factory=dict, hash=False)

    @property
    def rejected_conversation(self) -> Conversation | None:
        """The conversation that ends with the worse answer; None where there is none."""
        if not self.rejected:
            return None
        shared = self.conversation.messages[: self.num_shared]
        return replace(self.conversation, messages=shared + self.rejected)


def to_row(
    raw: Mapping[str, object],
    *,
    origin: Origin,
    columns: Mapping[str, str] | None = None,
    answers: Answers = "required",
) -> ChatRow:
    """Convert a raw row by the names of its columns; null columns count as missing, unknown ones become `extras`.

    Args:
        raw: the row as its file has it.
        origin: where it came from.
        columns: its names to ours; '_' leaves a column out.
        answers: 'required' takes a row that ends with an answer; 'optional' also one that ends with a question.

    Raises:
        BadRow: it cannot be used.
    """
    try:
        # A column of media counts though it is null: a placeholder without its picture is a fault.
        return _convert(rename(raw, columns or {}, keep_null=MEDIA_COLUMNS), origin, answers)
    except BadRow as error:
        raise BadRow(error.reason, error.problem, origin) from error.__cause__


def _convert(columns: Mapping[str, object], origin: Origin, answers: Answers) -> ChatRow:
    column_format, layout = find_format(columns, answers=answers)
    if layout.answer == _NUMBERED and layout.answer in columns:
        columns = {**columns, layout.answer: write_number(columns[layout.answer])}
    found = column_format.to_messages(columns, layout)
    if columns.keys() <= layout.columns and layout.place != "first":
        # Most rows have nothing beside their conversation.
        messages = tuple(place_media(found, {}))
        _check(messages, (), answers)
        return ChatRow(conversation=Conversation(messages=messages), origin=origin)
    system = _to_system(*_find(columns, "system"))
    tools = _to_tools(*_find(columns, "tools"))
    found = [*system, *found]
    sources = read_media(columns)
    messages = tuple(place_media(found, sources))
    _check(messages, tools, answers)
    rejected: tuple[Message, ...] = ()
    num_shared = 0
    if worse := _read_worse(columns, column_format, layout, system, found):
        num_shared = count_shared(found, worse)
        worse = place_media(worse, sources)
        _check(worse, tools, "required")
        rejected = tuple(worse[num_shared:])
    solution, channel = columns.get("solution"), columns.get("channel")
    objects = read_objects(columns.get("objects"), messages)
    label_name, label_value = _find(columns, "label")
    label = _to_label(label_value)
    used = layout.columns | column_format.optional | COMPANIONS
    # A source's values are JSON.
    extras = {
        name: cast("JSON", value)
        for name, value in columns.items()
        if name not in used or (name == label_name and label is None)
    }
    if extras:
        note_unread(origin.path, extras.keys())
    return ChatRow(
        conversation=Conversation(
            messages=messages, tools=tools, objects=None if objects is None else to_objects(objects)
        ),
        origin=origin,
        solution=None if solution is None else to_solution(solution, field="solution"),
        rejected=rejected,
        num_shared=num_shared,
        label=label,
        channel=None if channel is None else to_word(channel, field="channel"),
        objects=objects,
        extras=extras,
    )


def _read_worse(
    columns: Mapping[str, object],
    column_format: ColumnFormat,
    layout: Layout,
    system: Sequence[Message],
    better: Sequence[Message],
) -> list[Message]:
    own = column_format.to_rejected(columns, layout)
    beside = read_rejected(columns, better)
    if own and beside:
        raise BadRow("ambiguous columns", f"the row has '{layout}' and a rejected answer beside it; keep one of them")
    if beside and beside[0].role == "system":
        return beside
    return [*system, *own] if own else beside


def _check(messages: Sequence[Message], tools: tuple[dict[str, JSON], ...], answers: Answers) -> None:
    ends_with_answer = bool(messages) and messages[-1].role == "assistant"
    if messages and not ends_with_answer and answers == "required":
        raise BadRow("no answer", f"the last message is from {messages[-1].role!r}; expected an answer to train on")
    if len(messages) == 1 and ends_with_answer:
        # A text to train on has no question; with one before it, the same laws hold.
        messages = (Message(role="user", content=""), *messages)
    try:
        check_conversation(
            Conversation(messages=tuple(messages), tools=tools),
            prompt=not ends_with_answer and answers == "optional",
        )
    except InvalidConversation as error:
        # Formats check their fields, so what is left is the order.
        raise BadRow("wrong role order", str(error)) from error


def _find(columns: Mapping[str, object], name: str) -> tuple[str, object]:
    """Return the name and the value of a column that may have its other name; the value is None where it is missing."""
    alias = ALIASES[name]
    if alias not in columns:
        return name, columns.get(name)
    if name in columns:
        raise BadRow("ambiguous columns", f"the row has {quote((name, alias))}, which mean the same; keep one")
    return alias, columns[alias]


def _to_system(field: str, value: object) -> tuple[Message, ...]:
    # Many data sets write "" where a row has no system prompt.
    text = "" if value is None else to_text(value, field=field)
    return (Message(role="system", content=text),) if text else ()


def _to_label(value: object) -> bool | None:
    # CSV has flags as texts.
    if isinstance(value, str):
        lowered = value.strip().lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else None
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _to_tools(field: str, value: object) -> tuple[dict[str, JSON], ...]:
    if not value:
        return ()
    if isinstance(value, str):
        # Many data sets have the tools as JSON inside of a text.
        decoded = from_json(value, opening="[")
        if isinstance(decoded, str):
            if value.strip() in ("", "null", "None"):
                return ()
            raise BadRow("invalid value", f"{field!r} is {shorten(value)}, which is not JSON of a list of tools")
        value = decoded or ()
        if not value:
            return ()
    tools = to_list(value, field=field, of="tools")
    return tuple(_to_tool(tool, field=f"{field}[{index}]") for index, tool in enumerate(tools))


def _to_tool(value: object, *, field: str) -> dict[str, JSON]:
    # A source's values are JSON; what a tool must have is the template's business.
    tool = cast("dict[str, JSON]", dict(to_object(value, field=field)))
    if "name" in tool and "function" not in tool and tool.get("type", "function") == "function":
        # OpenAI's older `functions`, and many sets since, have the function alone.
        return {"type": "function", "function": {key: each for key, each in tool.items() if key != "type"}}
    return tool
