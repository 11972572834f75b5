"""RefCOCOg: as RefCOCO, with longer phrases."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard
from ._prepare import point_at
from ._refcoco import EXAMPLES

REFCOCOG = DatasetCard(
    name="refcocog",
    description="Boxes of the things that phrases mean.",
    kind="grounding",
    language=("en",),
    licence=UNKNOWN,
    hf_id="jxu124/refcocog",
    ms_id="swift/refcocog",
    prepare=point_at,
    examples=EXAMPLES,
)
