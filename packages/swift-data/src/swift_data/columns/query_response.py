"""A question and its answer in two columns, with earlier turns and a system prompt beside them.

    {"query": "And of Spain?", "response": "Madrid", "history": [["Capital of France?", "Paris"]], "system": "Be short"}

Other names for the two columns are in the table below; `history` and `system` may be missing. As TRL has it, both may
also be lists of messages: all that comes before the answer, and the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..turns import to_turns

# Another name needs one line here.
_NAMES = (
    ("query", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
    ("problem", "answer"),
    ("inputs", "targets"),
)


class QueryResponse(ColumnFormat):
    """Two columns of text."""

    layouts = tuple(Layout((query,), response) for query, response in _NAMES)
    optional = frozenset({"history"})
    examples = (
        {"query": "What is 2 + 2?", "response": "4"},
        {"prompt": "What is 2 + 2?", "completion": "4"},
        {"prompt": "What is 2 + 2?", "response": "4"},
        {"question": "What is 2 + 2?", "answer": "4"},
        {"question": "What is 2 + 2?", "response": "4"},
        {"instruction": "Add 2 and 2.", "output": "4"},
        {"instruction": "Add 2 and 2.", "response": "4"},
        {"input": "2 + 2", "output": "4"},
        {"problem": "What is 2 + 2?", "answer": "4"},
        {"inputs": "What is 2 + 2?", "targets": "4"},
        {
            "query": "And of Spain?",
            "response": "Madrid",
            "history": [["Capital of France?", "Paris"]],
            "system": "Answer in one word.",
        },
        {
            "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
            "completion": [{"role": "assistant", "content": "4"}],
        },
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Make the turns that the columns hold."""
        (query,) = layout.prompt
        return to_turns(columns, query=columns[query], query_field=query, answer_field=layout.answer)
