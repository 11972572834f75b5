"""ShareGPT4V: long captions of pictures; `image` is a file of the set that a picture is from."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SHAREGPT4V = DatasetCard(
    name="sharegpt4v",
    description="Long captions of pictures.",
    kind="vision",
    language=("en",),
    licence="CC-BY-NC-4.0",
    hf_id="Lin-Chen/ShareGPT4V",
    ms_id="AI-ModelScope/ShareGPT4V",
    hub_subset="ShareGPT4V",
    hub_subsets=("ShareGPT4V", "ShareGPT4V-PT"),
    examples=(
        {
            "id": "1",
            "image": "coco/train2017/1.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\\nWhat is on the hill?"},
                {"from": "gpt", "value": "A lighthouse."},
                {"from": "human", "value": "Which colour?"},
                {"from": "gpt", "value": "White."},
            ],
        },
        {
            "id": "2",
            "image": "sam/images/sa_2.jpg",
            "conversations": [
                {"from": "human", "value": "What is on the water?\\n<image>"},
                {"from": "gpt", "value": "A small boat."},
            ],
        },
    ),
)
