"""OpenR1-Math: problems with thoughts of DeepSeek-R1 that were verified."""

from __future__ import annotations

from ..dataset_card import DatasetCard

OPEN_R1_MATH = DatasetCard(
    name="open_r1_math",
    description="Competition problems with verified thoughts.",
    kind="chat",
    language=("en",),
    licence="Apache-2.0",
    hf_id="open-r1/OpenR1-Math-220k",
    ms_id="open-r1/OpenR1-Math-220k",
    columns={"problem": "_", "solution": "_", "answer": "solution"},
    examples=(
        {
            "problem": "Compute $2^3$.",
            "solution": "Multiply three twos.",
            "answer": "8",
            "problem_type": "Algebra",
            "messages": [
                {"role": "user", "content": "Compute $2^3$."},
                {"role": "assistant", "content": "<think>2, 4, 8.</think>It is $\\boxed{8}$."},
            ],
        },
        {
            "problem": "Solve $x + 1 = 3$.",
            "solution": "Subtract one.",
            "answer": "2",
            "problem_type": "Algebra",
            "messages": [
                {"role": "user", "content": "Solve $x + 1 = 3$."},
                {"role": "assistant", "content": "<think>3 - 1 is 2.</think>So $x = \\boxed{2}$."},
            ],
        },
    ),
)
