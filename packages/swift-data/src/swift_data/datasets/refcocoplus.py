"""RefCOCO+: as RefCOCO, with phrases that say nothing of places."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard
from ._prepare import point_at
from ._refcoco import EXAMPLES

REFCOCOPLUS = DatasetCard(
    name="refcocoplus",
    description="Boxes of the things that phrases mean.",
    kind="grounding",
    language=("en",),
    licence=UNKNOWN,
    hf_id="jxu124/refcocoplus",
    prepare=point_at,
    examples=EXAMPLES,
)
