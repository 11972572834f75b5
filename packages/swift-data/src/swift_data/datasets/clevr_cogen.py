"""CLEVR-CoGenT: how many things are in a picture; to be answered, with the number for rewards."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

CLEVR_COGEN = DatasetCard(
    name="clevr_cogen",
    description="Things in pictures to be counted.",
    kind="prompt",
    language=("en",),
    licence=UNKNOWN,
    hf_id="leonardPKU/clevr_cogen_a_train",
    ms_id="AI-ModelScope/clevr_cogen_a_train",
    columns={"problem": "query"},
    examples=(
        {
            "image": {"bytes": None, "path": "1.png"},
            "problem": "How many items are there?",
            "solution": "<answer> 3 </answer>",
        },
        {
            "image": {"bytes": None, "path": "2.png"},
            "problem": "How many items are there?",
            "solution": "<answer> 6 </answer>",
        },
    ),
)
