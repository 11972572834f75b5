"""Plain text, to go on training a base model with: all of it is trained on.

    {"text": "The lighthouse was built in 1871."}

Other columns beside it don't matter, unless another format knows them. `response` means the same where it is all that
a row has; beside an unknown column it is more likely an answer whose question has another name.
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..fields import to_answer


class Text(ColumnFormat):
    """One column of text."""

    layouts = (Layout(("text",), place="without others"), Layout(("response",), place="alone"))
    examples = (
        {"text": "The lighthouse was built in 1871."},
        {"text": "The lighthouse was built in 1871.", "url": "https://example.org/1", "id": 1},
        {"response": "The lighthouse was built in 1871."},
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Make a single message from the assistant."""
        (name,) = layout.prompt
        return [Message(role="assistant", content=to_answer(columns[name], field=name))]
