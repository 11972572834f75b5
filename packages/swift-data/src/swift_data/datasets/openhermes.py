"""OpenHermes 2.5: a million dialogues from many sources, most written by GPT-4."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

OPENHERMES = DatasetCard(
    name="openhermes",
    description="Dialogues from many sources, most by GPT-4.",
    kind="chat",
    language=("en",),
    licence=UNKNOWN,
    hf_id="teknium/OpenHermes-2.5",
    ms_id="swift/OpenHermes-2.5",
    examples=(
        {
            "conversations": [
                {"from": "human", "value": "How high is it?"},
                {"from": "gpt", "value": "Forty-one metres."},
            ],
            "source": "made-up",
            "category": "general",
            "system_prompt": None,
        },
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Capital of Norway?"},
                {"from": "gpt", "value": "Oslo."},
            ],
            "source": "made-up",
            "category": None,
            "system_prompt": None,
        },
    ),
)
