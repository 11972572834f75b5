"""Hermes function calling: dialogues in Hermes' own dialect.

The system prompt describes the tools and the texts hold the calls, so the column of the tools would say them twice.
"""

from __future__ import annotations

from ..dataset_card import DatasetCard

HERMES_FUNCTION_CALLING = DatasetCard(
    name="hermes_function_calling",
    description="Dialogues with calls in Hermes' dialect.",
    kind="agent",
    language=("en",),
    licence="Apache-2.0",
    hf_id="NousResearch/hermes-function-calling-v1",
    hub_subset="func_calling",
    hub_subsets=("func_calling", "func_calling_singleturn", "glaive_func_calling"),
    columns={"tools": "_"},
    examples=(
        {
            "id": "1",
            "conversations": [
                {"from": "system", "value": "You call functions. <tools>[]</tools>"},
                {"from": "human", "value": "Is the light on?"},
                {"from": "gpt", "value": '<tool_call>\n{"name": "lamp", "arguments": {}}\n</tool_call>'},
                {"from": "tool", "value": '<tool_response>\n{"on": true}\n</tool_response>'},
                {"from": "gpt", "value": "Yes, it is on."},
            ],
            "tools": "[]",
            "category": "made-up",
            "task": "Lamps",
        },
        {
            "id": "2",
            "conversations": [
                {"from": "system", "value": "You call functions. <tools>[]</tools>"},
                {"from": "human", "value": "Ring the bell."},
                {"from": "gpt", "value": '<tool_call>\n{"name": "bell", "arguments": {}}\n</tool_call>'},
            ],
            "tools": "[]",
            "category": "made-up",
            "task": "Bells",
        },
    ),
)
