"""RLAIF-V: pairs of answers about pictures, judged by models."""

from __future__ import annotations

from ..dataset_card import DatasetCard

RLAIF_V = DatasetCard(
    name="rlaif_v",
    description="Pairs of answers about pictures.",
    kind="preference",
    language=("en",),
    licence="CC-BY-NC-4.0",
    hf_id="openbmb/RLAIF-V-Dataset",
    ms_id="swift/RLAIF-V-Dataset",
    examples=(
        {
            "ds_name": "made-up",
            "image": {"bytes": None, "path": "1.jpg"},
            "question": "What is on the hill?",
            "chosen": "A lighthouse.",
            "rejected": "A church.",
            "idx": 1,
        },
        {
            "ds_name": "made-up",
            "image": {"bytes": None, "path": "2.jpg"},
            "question": "What is on the water?",
            "chosen": "A small boat.",
            "rejected": "Three ships.",
            "idx": 2,
        },
    ),
)
