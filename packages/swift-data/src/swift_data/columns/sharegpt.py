"""ShareGPT: a list of turns with `from` and `value`.

    {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}], "system": "Be brief."}

The system prompt is a turn from `system` or a column of its own; calls and results are turns from `function_call` and
`observation`. The columns may also hold turns with `role` and `content`, or pairs:

    {"conversation": [{"human": "2 + 2?", "assistant": "4"}]}
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..fields import get, to_answer, to_list, to_object, to_text
from ..message_fields import find_dialect, to_messages

_PAIR = ("human", "assistant")


class ShareGpt(ColumnFormat):
    """A column of turns."""

    layouts = (Layout(("conversations",)), Layout(("conversation",)))
    examples = (
        {"conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}]},
        {
            "conversation": [
                {"from": "human", "value": "Capital of France?"},
                {"from": "gpt", "value": "Paris"},
                {"from": "human", "value": "And of Spain?"},
                {"from": "gpt", "value": "Madrid"},
            ],
            "system": "Answer in one word.",
        },
        {
            "conversations": [
                {"from": "human", "value": "Warm in Oslo?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": '{"celsius": 4}'},
                {"from": "gpt", "value": "No, 4 degrees."},
            ]
        },
        {"conversation": [{"human": "What is 2 + 2?", "assistant": "4"}], "system": "Be brief."},
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the list turn by turn."""
        (name,) = layout.prompt
        items = to_list(columns[name], field=name, of="turns")
        first = items[0]
        if isinstance(first, Mapping) and not first.keys().isdisjoint(_PAIR):
            return [message for index, item in enumerate(items) for message in _to_pair(item, f"{name}[{index}]")]
        has_roles = find_dialect(items) == "openai" and isinstance(first, Mapping) and "role" in first
        return to_messages(items, field=name, dialect="openai" if has_roles else "sharegpt")


def _to_pair(value: object, field: str) -> list[Message]:
    item = to_object(value, field=field)
    question = to_text(get(item, "human", field=field), field=f"{field}.human")
    messages = [Message(role="user", content=question)]
    if item.get("assistant") is not None:
        answer = to_answer(item["assistant"], field=f"{field}.assistant")
        messages.append(Message(role="assistant", content=answer))
    return messages
