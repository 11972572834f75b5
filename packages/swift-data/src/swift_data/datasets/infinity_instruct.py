"""Infinity-Instruct: millions of instructions, chosen and evolved."""

from __future__ import annotations

from ..dataset_card import DatasetCard

INFINITY_INSTRUCT = DatasetCard(
    name="infinity_instruct",
    description="Millions of chosen and evolved instructions.",
    kind="chat",
    language=(
        "en",
        "zh",
    ),
    licence="CC-BY-SA-4.0",
    hf_id="BAAI/Infinity-Instruct",
    ms_id="swift/Infinity-Instruct",
    hub_subset="0625",
    hub_subsets=("3M", "7M", "0625", "Gen", "7M_domains"),
    columns={"label": "_"},
    examples=(
        {
            "id": 1,
            "conversations": [
                {"from": "human", "value": "How high is it?"},
                {"from": "gpt", "value": "Forty-one metres."},
            ],
            "label": {"ability_en": ["knowledge"]},
            "langdetect": "en",
            "source": "made-up",
        },
        {
            "id": 2,
            "conversations": [{"from": "human", "value": "它有多高？"}, {"from": "gpt", "value": "四十一米。"}],
            "label": {"ability_en": ["knowledge"]},
            "langdetect": "zh-cn",
            "source": "made-up",
        },
    ),
)
