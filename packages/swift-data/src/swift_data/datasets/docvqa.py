"""DocVQA: questions about scanned documents; of several answers, the most common is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ._prepare import take_most_common


def _vote(raw: Mapping[str, object]) -> dict[str, object]:
    return {"image": raw.get("image"), "query": raw.get("question"), "response": take_most_common(raw, "answers")}


DOCVQA = DatasetCard(
    name="docvqa",
    description="Questions about scanned documents.",
    kind="vision",
    language=("en",),
    licence="Apache-2.0",
    hf_id="lmms-lab/DocVQA",
    ms_id="lmms-lab/DocVQA",
    hub_subset="DocVQA",
    split="validation",
    prepare=_vote,
    examples=(
        {
            "questionId": "1",
            "question": "Who signed?",
            "image": {"bytes": None, "path": "1.png"},
            "answers": ["A. Reed", "Reed"],
        },
        {"questionId": "2", "question": "Which year?", "image": {"bytes": None, "path": "2.png"}, "answers": ["1871"]},
    ),
)
