"""CoT: questions with the reasoning before their answers, in English."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

COT_EN = DatasetCard(
    name="cot_en",
    description="Questions with reasoning before the answer.",
    kind="chat",
    language=("en",),
    licence=UNKNOWN,
    ms_id="YorickHe/CoT",
    examples=(
        {
            "instruction": "Is 9 a prime?",
            "input": "",
            "output": "9 is 3 times 3, so it has another divisor. The answer is no.",
        },
        {
            "instruction": "Answer by reasoning.",
            "input": "Can a whale climb a tree?",
            "output": "Whales have no legs. The answer is no.",
        },
    ),
)
