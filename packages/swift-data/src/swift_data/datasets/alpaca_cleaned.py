"""Alpaca, cleaned: the same instructions with the faulty answers corrected."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ALPACA_CLEANED = DatasetCard(
    name="alpaca_cleaned",
    description="Alpaca's instructions with faulty answers corrected.",
    kind="chat",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="yahma/alpaca-cleaned",
    ms_id="AI-ModelScope/alpaca-cleaned",
    examples=(
        {"instruction": "Name three colours of a traffic light.", "input": "", "output": "Red, yellow and green."},
        {
            "instruction": "Put the sentence into the past tense.",
            "input": "The keeper lights the lamp.",
            "output": "The keeper lit the lamp.",
        },
    ),
)
