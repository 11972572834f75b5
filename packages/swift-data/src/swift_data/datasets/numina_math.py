"""NuminaMath-CoT: 860,000 competition problems with steps; the solution holds the boxed answer."""

from __future__ import annotations

from ..dataset_card import DatasetCard

NUMINA_MATH = DatasetCard(
    name="numina_math",
    description="Competition problems with steps.",
    kind="chat",
    language=("en",),
    licence="Apache-2.0",
    hf_id="AI-MO/NuminaMath-CoT",
    ms_id="AI-MO/NuminaMath-CoT",
    columns={"problem": "_"},
    examples=(
        {
            "source": "made-up",
            "problem": "Compute $2^3$.",
            "solution": "It is $\\boxed{8}$.",
            "messages": [
                {"role": "user", "content": "Compute $2^3$."},
                {"role": "assistant", "content": "It is $\\boxed{8}$."},
            ],
        },
        {
            "source": "made-up",
            "problem": "Solve $x + 1 = 3$.",
            "solution": "So $x = \\boxed{2}$.",
            "messages": [
                {"role": "user", "content": "Solve $x + 1 = 3$."},
                {"role": "assistant", "content": "So $x = \\boxed{2}$."},
            ],
        },
    ),
)
