"""MetaMathQA: problems of GSM8K and MATH, put in other words, with steps."""

from __future__ import annotations

from ..dataset_card import DatasetCard

METAMATH = DatasetCard(
    name="metamath",
    description="School and competition problems in other words.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="meta-math/MetaMathQA",
    ms_id="swift/MetaMathQA",
    examples=(
        {
            "type": "GSM_Rephrased",
            "query": "What do 2 and 2 make?",
            "original_question": "2 + 2?",
            "response": "The answer is: 4",
        },
        {
            "type": "MATH_SV",
            "query": "X + 1 is 3. What is X?",
            "original_question": "1 + 2?",
            "response": "The answer is: 2",
        },
    ),
)
