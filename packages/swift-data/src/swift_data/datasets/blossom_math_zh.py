"""Blossom math: problems with steps and a short answer, which is put below the steps."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_answer


def _join_answer(raw: Mapping[str, object]) -> dict[str, object]:
    steps = to_answer(get(raw, "output", field="the row"), field="output")
    answer = to_answer(get(raw, "answer", field="the row"), field="answer")
    return {"query": raw.get("input"), "response": f"{steps}\n\nAnswer: {answer}", "solution": answer}


BLOSSOM_MATH_ZH = DatasetCard(
    name="blossom_math_zh",
    description="Math problems with steps and a short answer.",
    kind="chat",
    language=(
        "zh",
        "en",
    ),
    licence="Apache-2.0",
    hf_id="Azure99/blossom-math-v2",
    ms_id="AI-ModelScope/blossom-math-v2",
    prepare=_join_answer,
    examples=(
        {
            "id": "0",
            "input": "2箱梨，每箱6个，一共多少个？",
            "output": "每箱6个，2箱就是 2 × 6 = 12。",
            "answer": "12",
            "dataset": "made-up",
        },
        {
            "id": "1",
            "input": "What is a tenth of 50?",
            "output": "50 divided by 10 is 5.",
            "answer": "5",
            "dataset": "made-up",
        },
    ),
)
