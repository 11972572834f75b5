"""RefCOCO: boxes of the things that short phrases mean, in pictures of COCO, by pixels."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard
from ._prepare import point_at
from ._refcoco import EXAMPLES

REFCOCO = DatasetCard(
    name="refcoco",
    description="Boxes of the things that phrases mean.",
    kind="grounding",
    language=("en",),
    licence=UNKNOWN,
    hf_id="jxu124/refcoco",
    ms_id="swift/refcoco",
    prepare=point_at,
    examples=EXAMPLES,
)
