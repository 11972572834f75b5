"""TextVQA: questions about writing in pictures, with ten answers each, of which the most common is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ._prepare import take_most_common


def _vote(raw: Mapping[str, object]) -> dict[str, object]:
    return {"image": raw.get("image"), "query": raw.get("question"), "response": take_most_common(raw, "answers")}


TEXTVQA = DatasetCard(
    name="textvqa",
    description="Questions about writing in pictures.",
    kind="vision",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="lmms-lab/textvqa",
    ms_id="lmms-lab/textvqa",
    prepare=_vote,
    examples=(
        {
            "question_id": 1,
            "question": "What is on the sign?",
            "image": {"bytes": None, "path": "1.jpg"},
            "answers": ["no", "light", "light"],
        },
        {
            "question_id": 2,
            "question": "Which number?",
            "image": {"bytes": None, "path": "2.jpg"},
            "answers": ["41", "41"],
        },
    ),
)
