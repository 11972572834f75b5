"""Turns out of a question column, an answer column and `history`: what the two-column formats share."""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from .errors import BadRow
from .fields import shorten, to_answer, to_list, to_text
from .message_fields import find_dialect, is_turns, to_messages


def to_turns(
    columns: Mapping[str, object], *, query: object, query_field: str, answer_field: str | None
) -> list[Message]:
    """Return the earlier turns, the question and, where the row has it, the answer.

    Question and answer are texts, or lists of messages: all that came before the answer, and the answer.

    Args:
        columns: the row's columns that are not null.
        query: the question.
        query_field: the question's name in messages.
        answer_field: the column of the answer.

    Raises:
        BadRow: one of them is neither, an answer is empty, or `history` is no list of pairs.
    """
    messages = to_history(columns.get("history"))
    messages += to_question(query, field=query_field, after_history=bool(messages))
    if answer_field is not None and answer_field in columns:
        messages += to_answers(columns[answer_field], field=answer_field)
    return messages


def to_history(value: object) -> list[Message]:
    """Return the turns of a list of [question, answer] pairs. Raises as `to_turns` does."""
    if value is None or value in ("", "[]", []):
        return []
    pairs = to_list(value, field="history", of="[question, answer] pairs")
    return [message for index, pair in enumerate(pairs) for message in _to_turn(pair, field=f"history[{index}]")]


def to_question(value: object, *, field: str, after_history: bool = False) -> list[Message]:
    """Return a question, or the messages that end with one. Raises as `to_turns` does."""
    if not is_turns(value):
        return [Message(role="user", content=to_text(value, field=field))]
    if after_history:
        raise BadRow("ambiguous columns", f"{field!r} is a list of messages and stands beside 'history'; keep one")
    return to_messages(value, field=field, dialect=find_dialect(value))


def to_answers(value: object, *, field: str) -> list[Message]:
    """Return an answer, or the messages that make it up. Raises as `to_turns` does."""
    if not is_turns(value):
        return [Message(role="assistant", content=to_answer(value, field=field))]
    return to_messages(value, field=field, dialect=find_dialect(value))


def _to_turn(pair: object, *, field: str) -> list[Message]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadRow("invalid value", f"{field!r} is {shorten(pair)}; expected a [question, answer] pair")
    question, answer = pair
    return [
        Message(role="user", content=to_text(question, field=f"{field}[0]")),
        Message(role="assistant", content=to_answer(answer, field=f"{field}[1]")),
    ]
