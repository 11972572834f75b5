"""ShareGPT: dialogues that people shared, in Chinese and English."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

SHAREGPT = DatasetCard(
    name="sharegpt",
    description="Dialogues that people shared.",
    kind="chat",
    language=(
        "zh",
        "en",
    ),
    licence=UNKNOWN,
    ms_id="swift/sharegpt",
    hub_subsets=("common-zh", "unknow-zh", "common-en"),
    examples=(
        {"conversation": [{"human": "灯塔有多高？", "assistant": "四十一米。"}]},
        {
            "conversation": [
                {"human": "How high is the lighthouse?", "assistant": "Forty-one metres."},
                {"human": "In feet?", "assistant": "About 135 feet."},
            ]
        },
    ),
)
