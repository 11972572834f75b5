"""LLaVA-Instruct: dialogues about pictures of COCO, written by GPT-4; `image` is a file of COCO."""

from __future__ import annotations

from ..dataset_card import DatasetCard

LLAVA_INSTRUCT = DatasetCard(
    name="llava_instruct",
    description="Dialogues about pictures.",
    kind="vision",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="liuhaotian/LLaVA-Instruct-150K",
    ms_id="AI-ModelScope/LLaVA-Instruct-150K",
    examples=(
        {
            "id": "1",
            "image": "000000000001.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\\nWhat is on the hill?"},
                {"from": "gpt", "value": "A lighthouse."},
                {"from": "human", "value": "Which colour?"},
                {"from": "gpt", "value": "White."},
            ],
        },
        {
            "id": "2",
            "image": "000000000002.jpg",
            "conversations": [
                {"from": "human", "value": "What is on the water?\\n<image>"},
                {"from": "gpt", "value": "A small boat."},
            ],
        },
    ),
)
