"""Multimodal Open-R1: problems with pictures, to be solved, with verified answers."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

MULTIMODAL_OPEN_R1 = DatasetCard(
    name="multimodal_open_r1",
    description="Problems with pictures, to be solved.",
    kind="prompt",
    language=("en",),
    licence=UNKNOWN,
    hf_id="lmms-lab/multimodal-open-r1-8k-verified",
    ms_id="lmms-lab/multimodal-open-r1-8k-verified",
    columns={"problem": "query"},
    examples=(
        {
            "image": {"bytes": None, "path": "1.png"},
            "problem": "How long is side a?",
            "solution": "<answer> 5 </answer>",
        },
        {
            "image": {"bytes": None, "path": "2.png"},
            "problem": "How large is the angle?",
            "solution": "<answer> 60 </answer>",
        },
    ),
)
