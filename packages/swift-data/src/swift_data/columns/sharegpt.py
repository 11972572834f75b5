"""ShareGPT: a list of turns with `from` and `value`.

    {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}], "system": "Be brief."}

The system prompt is a turn from `system` or a column of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message, Role

from ..column_format import ColumnFormat, Layout
from ..errors import BadRow
from ..fields import get, quote, shorten, to_answer, to_list, to_object, to_text

_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


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
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the list turn by turn."""
        (name,) = layout.prompt
        items = to_list(columns[name], field=name, of="turns")
        return [_to_message(item, field=f"{name}[{index}]") for index, item in enumerate(items)]


def _to_message(value: object, *, field: str) -> Message:
    item = to_object(value, field=field)
    if "from" not in item and "role" in item:
        raise BadRow("missing field", f"{field!r} has 'role' instead of 'from'; rename this column to 'messages'")
    name = to_text(get(item, "from", field=field), field=f"{field}.from")
    role = _ROLES.get(name)
    if role is None:
        raise BadRow("unknown role", f"'{field}.from' is {shorten(name)}; expected one of {quote(_ROLES)}")
    read = to_answer if role == "assistant" else to_text
    return Message(role=role, content=read(get(item, "value", field=field), field=f"{field}.value"))
