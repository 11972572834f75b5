"""MATH-500: 500 problems of the MATH test set, with full solutions and short answers."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

MATH_500 = DatasetCard(
    name="math_500",
    description="Competition problems with solutions and answers.",
    kind="chat",
    language=("en",),
    licence=UNKNOWN,
    hf_id="HuggingFaceH4/MATH-500",
    ms_id="AI-ModelScope/MATH-500",
    split="test",
    columns={"problem": "query", "solution": "response", "answer": "solution"},
    examples=(
        {
            "problem": "Compute $2^3$.",
            "solution": "We have $2 \\cdot 2 \\cdot 2 = \\boxed{8}$.",
            "answer": "8",
            "subject": "Prealgebra",
            "level": 1,
            "unique_id": "test/made_up/1.json",
        },
        {
            "problem": "Solve $x + 1 = 3$.",
            "solution": "So $x = \\boxed{2}$.",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/made_up/2.json",
        },
    ),
)
