"""Messages, as in OpenAI's fine-tuning files: a list of objects with `role` and `content`.

    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}

A content is a text or a list of parts; a message may have `reasoning_content`, `tool_calls` and `tool_call_id` too, and
one from the assistant `loss` (true or false: train on it; Axolotl's `train` and `training` say the same) and
`loss_scale` (the weight of its tokens). Calls and
results may also be messages of their own, from `tool_call` (the content is JSON with `name` and `arguments`) and
`tool_response`. A single message from the assistant is a text to train on.
"""

from __future__ import annotations

from collections.abc import Mapping

from swift_templates.messages import Message

from ..column_format import ColumnFormat, Layout
from ..message_fields import to_messages


class Messages(ColumnFormat):
    """A column of messages."""

    layouts = (Layout(("messages",)),)
    examples = (
        {"messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]},
        {
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "Capital of France?"},
                {"role": "assistant", "content": "Paris", "loss": False},
                {"role": "user", "content": "And of Spain?"},
                {"role": "assistant", "content": "Madrid", "reasoning_content": "Its capital.", "loss_scale": 2},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Warm in Oslo?"}]},
                {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                {"role": "tool_response", "content": '{"celsius": 4}'},
                {"role": "assistant", "content": "No, 4 degrees."},
            ]
        },
    )

    def to_messages(self, columns: Mapping[str, object], layout: Layout) -> list[Message]:
        """Convert the list message by message."""
        (name,) = layout.prompt
        return to_messages(columns[name], field=name)
