"""Glaive tool calls, in ShareGPT's turns: calls and results are turns of their own, tools a text of JSON."""

from __future__ import annotations

from ..dataset_card import DatasetCard

GLAIVE_TOOLCALL_EN = DatasetCard(
    name="glaive_toolcall_en",
    description="Dialogues with calls of functions.",
    kind="agent",
    language=("en",),
    licence="Apache-2.0",
    hf_id="llamafactory/glaive_toolcall_en",
    examples=(
        {
            "conversations": [
                {"from": "human", "value": "Is the light on?"},
                {"from": "function_call", "value": '{"name": "lamp", "arguments": {"room": "top"}}'},
                {"from": "observation", "value": '{"on": true}'},
                {"from": "gpt", "value": "Yes, it is on."},
            ],
            "tools": '[{"name": "lamp", "description": "Whether a lamp is on", "parameters": {"type": "object"}}]',
        },
        {
            "conversations": [
                {"from": "human", "value": "Can you bake?"},
                {"from": "gpt", "value": "No, I can only look at lamps."},
            ],
            "tools": '[{"name": "lamp", "description": "Whether a lamp is on", "parameters": {"type": "object"}}]',
        },
    ),
)
