"""Turns out of a question column, an answer column and `history`: what the two-column formats share."""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from .errors import BadRow
from .fields import shorten, to_answer, to_list, to_text


def to_turns(
    columns: Mapping[str, object], *, query: object, query_field: str, answer_field: str | None
) -> list[Message]:
    """Return the earlier turns, the question and, where the row has it, the answer.

    Args:
        columns: the row's columns that are not null.
        query: the question.
        query_field: the question's name in messages.
        answer_field: the column of the answer.

    Raises:
        BadRow: one of them is not text, an answer is empty, or `history` is no list of pairs.
    """
    messages = []
    if columns.get("history"):
        for index, pair in enumerate(to_list(columns["history"], field="history", of="[question, answer] pairs")):
            messages += _to_turn(pair, field=f"history[{index}]")
    messages.append(Message(role="user", content=to_text(query, field=query_field)))
    if answer_field is not None and answer_field in columns:
        messages.append(Message(role="assistant", content=to_answer(columns[answer_field], field=answer_field)))
    return messages


def _to_turn(pair: object, *, field: str) -> list[Message]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise BadRow("invalid value", f"{field!r} is {shorten(pair)}; expected a [question, answer] pair")
    question, answer = pair
    return [
        Message(role="user", content=to_text(question, field=f"{field}[0]")),
        Message(role="assistant", content=to_answer(answer, field=f"{field}[1]")),
    ]
