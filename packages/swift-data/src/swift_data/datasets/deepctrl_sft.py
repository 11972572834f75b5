"""DeepCtrl: ten million instructions in Chinese, and as a subset in English."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

DEEPCTRL_SFT = DatasetCard(
    name="deepctrl_sft",
    description="Instructions of many kinds, with the turns before them.",
    kind="chat",
    language=(
        "zh",
        "en",
    ),
    licence=UNKNOWN,
    ms_id="AI-ModelScope/deepctrl-sft-data",
    hub_subset="default",
    hub_subsets=("default", "en"),
    examples=(
        {"id": 1, "instruction": "回答问题。", "input": "灯塔有多高？", "output": "四十一米。", "history": []},
        {
            "id": 2,
            "instruction": "",
            "input": "是谁建的？",
            "output": "当地的石匠。",
            "history": [["灯塔有多高？", "四十一米。"]],
        },
    ),
)
