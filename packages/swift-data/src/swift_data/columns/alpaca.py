"""Alpaca: an instruction, an input that it applies to (often empty), and an output.

    {"instruction": "Translate to French.", "input": "Good morning", "output": "Bonjour"}

The question is the instruction, and the input on the next line where there is one. `history` and `system` may be there
too. The output may be called `response`, and the input `context`, as Dolly has it.
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..fields import to_text
from ..turns import to_turns


class Alpaca(ColumnFormat):
    """Three columns of text."""

    layouts = (
        Layout(("instruction", "input"), "output"),
        Layout(("instruction", "input"), "response"),
        Layout(("instruction", "context"), "response"),
    )
    optional = frozenset({"history"})
    examples = (
        {"instruction": "Translate to French.", "input": "Good morning", "output": "Bonjour"},
        {"instruction": "Name a prime.", "input": "", "output": "7", "system": "Be brief."},
        {"instruction": "Translate to French.", "input": "Good morning", "response": "Bonjour"},
        {"instruction": "Translate to French.", "context": "Good morning", "response": "Bonjour"},
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Join instruction and input to a question."""
        parts = [to_text(columns[name], field=name) for name in layout.prompt]
        query = "\n".join(part for part in parts if part)
        return to_turns(columns, query=query, query_field="instruction", answer_field=layout.answer)
