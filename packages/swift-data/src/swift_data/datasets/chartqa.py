"""ChartQA: questions about charts; the answer is a list of one text."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ._prepare import take_first


def _take_label(raw: Mapping[str, object]) -> dict[str, object]:
    return {"image": raw.get("image"), "query": raw.get("query"), "response": take_first(raw, "label")}


CHARTQA = DatasetCard(
    name="chartqa",
    description="Questions about charts.",
    kind="vision",
    language=("en",),
    licence="GPL-3.0",
    hf_id="HuggingFaceM4/ChartQA",
    ms_id="swift/ChartQA",
    prepare=_take_label,
    examples=(
        {
            "image": {"bytes": None, "path": "1.png"},
            "query": "Which bar is highest?",
            "label": ["2021"],
            "human_or_machine": 0,
        },
        {"image": {"bytes": None, "path": "2.png"}, "query": "How many bars?", "label": ["4"], "human_or_machine": 1},
    ),
)
