"""LLaVA-Pretrain: 558,000 pictures with captions, to align a projector with."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

LLAVA_PRETRAIN = DatasetCard(
    name="llava_pretrain",
    description="Pictures with captions as dialogues.",
    kind="vision",
    language=("en",),
    licence=UNKNOWN,
    hf_id="liuhaotian/LLaVA-Pretrain",
    ms_id="AI-ModelScope/LLaVA-Pretrain",
    examples=(
        {
            "id": "1",
            "image": "00001/000010001.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\\nWhat is on the hill?"},
                {"from": "gpt", "value": "A lighthouse."},
                {"from": "human", "value": "Which colour?"},
                {"from": "gpt", "value": "White."},
            ],
        },
        {
            "id": "2",
            "image": "00002/000020002.jpg",
            "conversations": [
                {"from": "human", "value": "What is on the water?\\n<image>"},
                {"from": "gpt", "value": "A small boat."},
            ],
        },
    ),
)
