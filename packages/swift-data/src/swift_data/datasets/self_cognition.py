"""Self-cognition: short questions about who the model is, whose answers hold {{NAME}} and {{AUTHOR}}.

Some rows come with this package; more are on the hubs. `fill_identity` puts the names in, which `model_name` and
`model_author` give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swift_templates.messages import Conversation, Message

from ..chat_row import ChatRow
from ..dataset_card import DatasetCard
from ..errors import InvalidArgument

NAME_MARK: Final = "{{NAME}}"
"""Stands for the model's name."""
AUTHOR_MARK: Final = "{{AUTHOR}}"
"""Stands for the name of who made it."""

SELF_COGNITION = DatasetCard(
    name="self_cognition",
    description="Questions about who the model is, to be filled with its name and its maker's.",
    kind="chat",
    language=("zh", "en"),
    licence="Apache-2.0",
    files={"train": Path(__file__).parent / "self_cognition.jsonl"},
    default="train",
    hf_id="modelscope/self-cognition",
    ms_id="swift/self-cognition",
    examples=(
        {"query": "Who are you?", "response": "I am {{NAME}}, made by {{AUTHOR}}.", "tag": "en"},
        {"query": "你是谁？", "response": "我是{{NAME}}，由{{AUTHOR}}开发。", "tag": "zh"},
    ),
)


def fill_identity(row: ChatRow, name: str | Sequence[str], author: str | Sequence[str]) -> ChatRow:
    """Return a row with the model's name and its maker's in place of the marks; other rows come back as they are.

    Args:
        row: one whose column `tag`, where there is one, is 'zh' or 'en'.
        name: the model's name, or two: in Chinese, and in other languages.
        author: the maker's, in the same way.

    Raises:
        InvalidArgument: one of them is empty, or has another number of names.
    """
    language = 0 if row.extras.get("tag") == "zh" else -1
    names = {
        NAME_MARK: _pick(name, language, option="model_name"),
        AUTHOR_MARK: _pick(author, language, option="model_author"),
    }
    messages = tuple(_fill(message, names) for message in row.conversation.messages)
    rejected = tuple(_fill(message, names) for message in row.rejected)
    if messages == row.conversation.messages and rejected == row.rejected:
        return row
    conversation = Conversation(messages=messages, tools=row.conversation.tools)
    return dataclasses.replace(row, conversation=conversation, rejected=rejected)


def _pick(given: str | Sequence[str], index: int, *, option: str) -> str:
    names = [given] if isinstance(given, str) else list(given)
    if len(names) not in (1, 2) or not all(each.strip() for each in names):
        raise InvalidArgument(f"{option} is {given!r}; expected a name, or one in Chinese and one in other languages")
    return names[index]


def _fill(message: Message, names: dict[str, str]) -> Message:
    text = message.content
    if not any(mark in text for mark in names) or message.media:
        return message
    for mark, name in names.items():
        text = text.replace(mark, name)
    return dataclasses.replace(message, content=text)
