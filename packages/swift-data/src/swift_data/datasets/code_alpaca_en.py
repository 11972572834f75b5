"""Code Alpaca: 20,000 programming tasks in Alpaca's columns."""

from __future__ import annotations

from ..dataset_card import DatasetCard

CODE_ALPACA_EN = DatasetCard(
    name="code_alpaca_en",
    description="Programming tasks with solutions.",
    kind="chat",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="sahil2801/CodeAlpaca-20k",
    ms_id="wyj123456/code_alpaca_en",
    examples=(
        {"instruction": "Double a number in Python.", "input": "x = 4", "output": "x = 4\nx *= 2"},
        {"instruction": "Write a comment in Python.", "input": "", "output": "# The lamp is lit at dusk."},
    ),
)
