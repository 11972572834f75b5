"""OK-VQA: questions about pictures that take knowledge; of ten answers, the most common is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import UNKNOWN, DatasetCard
from ._prepare import take_most_common


def _vote(raw: Mapping[str, object]) -> dict[str, object]:
    return {"image": raw.get("image"), "query": raw.get("question"), "response": take_most_common(raw, "answers")}


OK_VQA = DatasetCard(
    name="ok_vqa",
    description="Questions about pictures that take knowledge.",
    kind="vision",
    language=("en",),
    licence=UNKNOWN,
    hf_id="Multimodal-Fatima/OK-VQA_train",
    ms_id="swift/OK-VQA_train",
    prepare=_vote,
    examples=(
        {
            "image": {"bytes": None, "path": "1.jpg"},
            "question": "What warns ships?",
            "answers": ["lamp", "light", "light"],
        },
        {"image": {"bytes": None, "path": "2.jpg"}, "question": "What pulls it?", "answers": ["wind", "wind"]},
    ),
)
