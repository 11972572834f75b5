"""Orca DPO pairs: answers of GPT-4 over those of Llama 2, under Orca's prompts."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ORCA_DPO = DatasetCard(
    name="orca_dpo",
    description="Pairs of answers to Orca's questions.",
    kind="preference",
    language=("en",),
    licence="Apache-2.0",
    hf_id="Intel/orca_dpo_pairs",
    ms_id="swift/orca_dpo_pairs",
    examples=(
        {"system": "", "question": "How high is it?", "chosen": "41 metres.", "rejected": "I cannot say."},
        {
            "system": "Be brief.",
            "question": "Capital of Norway?",
            "chosen": "Oslo.",
            "rejected": "Well, that is a long story.",
        },
    ),
)
