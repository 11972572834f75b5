"""COCO 2014: pictures with captions; of several in one row, the first is taken."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import UNKNOWN, DatasetCard
from ..fields import get, to_text


def _take_caption(raw: Mapping[str, object]) -> dict[str, object]:
    captions = to_text(get(raw, "caption", field="the row"), field="caption")
    return {**raw, "caption": captions.partition("&&")[0]}


COCO_EN = DatasetCard(
    name="coco_en",
    description="Pictures of everyday scenes with captions.",
    kind="vision",
    language=("en",),
    licence=UNKNOWN,
    ms_id="modelscope/coco_2014_caption",
    hub_subset="coco_2014_caption",
    prepare=_take_caption,
    columns={"caption": "response"},
    constants={"query": "please describe the image."},
    examples=(
        {
            "image_id": 1,
            "image": {"bytes": None, "path": "1.jpg"},
            "caption": "A white lighthouse.&&A tower by the sea.",
        },
        {"image_id": 2, "image": {"bytes": None, "path": "2.jpg"}, "caption": "A small blue boat."},
    ),
)
