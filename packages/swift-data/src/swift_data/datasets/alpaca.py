"""Alpaca: 52,000 instructions with answers by text-davinci-003."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ALPACA = DatasetCard(
    name="alpaca",
    description="The first Alpaca: instructions and answers by text-davinci-003.",
    kind="chat",
    language=("en",),
    licence="CC-BY-NC-4.0",
    hf_id="tatsu-lab/alpaca",
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
