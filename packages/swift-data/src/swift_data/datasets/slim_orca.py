"""SlimOrca: half a million answers of OpenOrca that GPT-4 found right."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SLIM_ORCA = DatasetCard(
    name="slim_orca",
    description="The answers of OpenOrca that were found right.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="Open-Orca/SlimOrca",
    ms_id="swift/SlimOrca",
    examples=(
        {
            "conversations": [
                {"from": "system", "value": "Explain your answer.", "weight": None},
                {"from": "human", "value": "Is 9 a prime?", "weight": 0.0},
                {"from": "gpt", "value": "No, it is 3 times 3.", "weight": 1.0},
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": "Capital of Norway?", "weight": 0.0},
                {"from": "gpt", "value": "Oslo.", "weight": 1.0},
            ]
        },
    ),
)
