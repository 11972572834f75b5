"""A better and a worse answer to one prompt, as TRL has them.

    {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}

`chosen` and `rejected` are texts, messages or lists of messages. The prompt is a text or a list of messages in a column
`prompt`, `query`, `question`, `instruction` (with `input`), `messages` or `conversations`; or it is a part of both:

    {"chosen": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
     "rejected": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}]}

Two texts without a prompt are two texts to go on from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..errors import BadRow
from ..fields import quote, to_text
from ..message_fields import is_turn
from ..turns import to_answers, to_history, to_question

_PROMPTS: Final = ("prompt", "query", "question", "instruction", "messages", "conversations", "conversation")


class Preference(ColumnFormat):
    """Two columns with an answer each, and the prompt in a third or in both."""

    layouts = (Layout(("chosen", "rejected"), place="first"),)
    optional = frozenset({*_PROMPTS, "input", "history"})
    examples = (
        {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"},
        {
            "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
            "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}],
        },
        {
            "chosen": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}],
            "rejected": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "5"}],
        },
        {
            "conversations": [{"from": "human", "value": "What is 2 + 2?"}],
            "chosen": {"from": "gpt", "value": "4"},
            "rejected": {"from": "gpt", "value": "5"},
        },
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Make the conversation with the better answer."""
        return _to_conversation(columns, "chosen")

    def to_rejected(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Make the conversation with the worse answer."""
        return _to_conversation(columns, "rejected")


def _to_conversation(columns: Mapping[str, object], name: str) -> list[Message]:
    value = columns[name]
    answers = to_answers([value] if is_turn(value) else value, field=name)
    # A list that begins with a question is the whole conversation, though the prompt may stand beside it once more.
    return answers if answers[0].role in ("user", "system") else [*_to_prompt(columns), *answers]


def _to_prompt(columns: Mapping[str, object]) -> list[Message]:
    given = [name for name in _PROMPTS if columns.get(name)]
    if not given:
        return []
    if len(given) > 1:
        raise BadRow("ambiguous columns", f"the row has {quote(given)} as its prompt; keep one, rename the others")
    (name,) = given
    value = columns[name]
    if name == "instruction" and columns.get("input"):
        value = f"{to_text(value, field=name)}\n{to_text(columns['input'], field='input')}"
    history = to_history(columns.get("history"))
    return [*history, *to_question(value, field=name, after_history=bool(history))]
