"""A better and a worse answer to one prompt, as TRL has them.

    {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}

`chosen` and `rejected` are texts, messages or lists of messages. The prompt is a text or a list of messages in a column
`prompt`, `query`, `question`, `instruction` (with `input`), `messages` or `conversations`; or it is a part of both:

    {"chosen": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
     "rejected": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}]}

A prompt that stands beside whole conversations once more must be the same; the system message is often in it alone.
Two texts without a prompt are two texts to go on from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    if answers[0].role not in ("user", "system"):
        return [*_to_prompt(columns), *answers]
    # A list that begins with a question is the whole conversation.
    if to_history(columns.get("history")):
        raise BadRow("ambiguous columns", f"{name!r} is the whole conversation, and 'history' stands beside it")
    for prompt in _PROMPTS:
        if columns.get(prompt):
            answers = _add_prompt(to_question(_join_input(columns, prompt), field=prompt), prompt, answers, name)
    return answers


def _add_prompt(prompt: Sequence[Message], prompt_name: str, whole: list[Message], name: str) -> list[Message]:
    """Return a whole conversation with the system message that its prompt has, if it is the same prompt."""
    if len(prompt) == 1 and prompt[0].role == "user":
        # Some have the prompt as one text with the names of the speakers, or with its system message before it.
        text = _squeeze(prompt[0].content)
        asked_for = [said for each in whole if each.role == "user" and (said := _squeeze(each.content))]
        if not asked_for or any(text in said or said in text for said in asked_for):
            return whole
    else:
        has_system = prompt[0].role == "system"
        last = max((index for index, each in enumerate(prompt) if each.role != "assistant"), default=-1)
        # An answer at its end may be the better one, which the worse conversation has not.
        asked = prompt[: last + 1]
        if has_system and whole[0].role != "system":
            whole = [prompt[0], *whole]
        elif not has_system and whole[0].role == "system":
            asked = [whole[0], *asked]
        if [_said(each) for each in asked] == [_said(each) for each in whole[: len(asked)]]:
            return whole
    raise BadRow(
        "ambiguous columns",
        f"{prompt_name!r} is another prompt than that in {name!r}, which is a whole conversation; keep the right one, "
        "and leave the column out otherwise ('_')",
    )


def _said(message: Message) -> tuple[str, str]:
    return message.role, _squeeze(message.content)


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _join_input(columns: Mapping[str, object], name: str) -> object:
    value = columns[name]
    if name == "instruction" and columns.get("input"):
        return f"{to_text(value, field=name)}\n{to_text(columns['input'], field='input')}"
    return value


def _to_prompt(columns: Mapping[str, object]) -> list[Message]:
    given = [name for name in _PROMPTS if columns.get(name)]
    if not given:
        return []
    if len(given) > 1:
        raise BadRow("ambiguous columns", f"the row has {quote(given)} as its prompt; keep one, rename the others")
    (name,) = given
    history = to_history(columns.get("history"))
    return [*history, *to_question(_join_input(columns, name), field=name, after_history=bool(history))]
