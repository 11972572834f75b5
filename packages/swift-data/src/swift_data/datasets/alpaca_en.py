"""Alpaca with answers by GPT-4, in English; `alpaca-gpt4-en` is the same."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ALPACA_EN = DatasetCard(
    name="alpaca_en",
    description="Alpaca's instructions with answers by GPT-4.",
    kind="chat",
    language=("en",),
    licence="CC-BY-NC-4.0",
    hf_id="vicgalle/alpaca-gpt4",
    ms_id="AI-ModelScope/alpaca-gpt4-data-en",
    examples=(
        {
            "instruction": "Name three colours of a traffic light.",
            "input": "",
            "output": "Red, yellow and green.",
            "text": "Below is an instruction. Name three colours of a traffic light. Red, yellow and green.",
        },
        {
            "instruction": "Put the sentence into the past tense.",
            "input": "The keeper lights the lamp.",
            "output": "The keeper lit the lamp.",
            "text": "Below is an instruction with an input. The keeper lights the lamp. The keeper lit the lamp.",
        },
    ),
)
