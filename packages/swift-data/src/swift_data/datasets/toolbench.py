"""ToolBench: dialogues with calls of real interfaces, for its own dialect."""

from __future__ import annotations

from ..dataset_card import DatasetCard

TOOLBENCH = DatasetCard(
    name="toolbench",
    description="Dialogues with calls of real interfaces.",
    kind="agent",
    language=("en",),
    licence="Apache-2.0",
    ms_id="swift/ToolBench",
    examples=(
        {
            "tools": '[{"type": "function", "function": {"name": "lamp", "parameters": {"type": "object"}}}]',
            "conversations": [
                {"from": "user", "value": "Is the light on?"},
                {"from": "assistant", "value": "Thought: I ask.\nAction: lamp\nAction Input: {}"},
                {"from": "tool", "value": '{"lamp": "on"}'},
                {"from": "assistant", "value": "Thought: I know.\nAction: Finish\nAction Input: {}"},
            ],
        },
        {
            "tools": "[]",
            "conversations": [
                {"from": "system", "value": "Answer, or call a tool."},
                {"from": "user", "value": "How high is the lighthouse?"},
                {"from": "assistant", "value": "Forty-one metres."},
            ],
        },
    ),
)
