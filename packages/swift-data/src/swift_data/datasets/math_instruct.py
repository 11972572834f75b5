"""MathInstruct: problems of 13 sources, solved with steps or with programs."""

from __future__ import annotations

from ..dataset_card import DatasetCard

MATH_INSTRUCT = DatasetCard(
    name="math_instruct",
    description="Problems solved with steps or programs.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="TIGER-Lab/MathInstruct",
    ms_id="AI-ModelScope/MathInstruct",
    examples=(
        {"source": "made-up.json", "output": "2 + 2 = 4. The answer is 4.", "instruction": "What is 2 + 2?"},
        {
            "source": "made-up.json",
            "output": "print(2 ** 3)",
            "instruction": "Write a program that computes 2 to the 3rd.",
        },
    ),
)
