"""COCO captions: a picture and one of its captions a row."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

COCO_CAPTION = DatasetCard(
    name="coco_caption",
    description="Pictures of everyday scenes with one caption each.",
    kind="vision",
    language=("en",),
    licence=UNKNOWN,
    hf_id="jxie/coco_captions",
    columns={"caption": "response"},
    constants={"query": "Describe the image in one sentence."},
    examples=(
        {"image": {"bytes": None, "path": "1.jpg"}, "filename": "1.jpg", "cocoid": 1, "caption": "A white lighthouse."},
        {"image": {"bytes": None, "path": "2.jpg"}, "filename": "2.jpg", "cocoid": 2, "caption": "A small blue boat."},
    ),
)
