"""NuminaMath-TIR: problems that take a tool to solve; here as questions, with the solution for rewards."""

from __future__ import annotations

from ..dataset_card import DatasetCard

NUMINA_MATH_TIR = DatasetCard(
    name="numina_math_tir",
    description="Competition problems to be solved, with solutions for rewards.",
    kind="prompt",
    language=("en",),
    licence="Apache-2.0",
    hf_id="AI-MO/NuminaMath-TIR",
    ms_id="AI-MO/NuminaMath-TIR",
    columns={"problem": "query", "messages": "_"},
    examples=(
        {
            "problem": "Compute $2^3$.",
            "solution": "It is $\\boxed{8}$.",
            "messages": [
                {"role": "user", "content": "Compute $2^3$."},
                {"role": "assistant", "content": "It is $\\boxed{8}$."},
            ],
        },
        {
            "problem": "Solve $x + 1 = 3$.",
            "solution": "So $x = \\boxed{2}$.",
            "messages": [
                {"role": "user", "content": "Solve $x + 1 = 3$."},
                {"role": "assistant", "content": "So $x = \\boxed{2}$."},
            ],
        },
    ),
)
