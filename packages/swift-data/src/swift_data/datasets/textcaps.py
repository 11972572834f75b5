"""TextCaps: captions of pictures with writing in them; the first of five is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ._prepare import take_first


def _take_caption(raw: Mapping[str, object]) -> dict[str, object]:
    return {"image": raw.get("image"), "response": take_first(raw, "reference_strs")}


TEXTCAPS = DatasetCard(
    name="textcaps",
    description="Captions of pictures with writing in them.",
    kind="vision",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="HuggingFaceM4/TextCaps",
    ms_id="swift/TextCaps",
    prepare=_take_caption,
    constants={"query": "What is the caption of this image?"},
    examples=(
        {
            "image_id": "1",
            "image": {"bytes": None, "path": "1.jpg"},
            "reference_strs": ["A sign says light.", "A sign."],
        },
        {"image_id": "2", "image": {"bytes": None, "path": "2.jpg"}, "reference_strs": ["A boat with the number 41."]},
    ),
)
