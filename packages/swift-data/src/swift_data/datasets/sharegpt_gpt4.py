"""ShareGPT, the part with GPT-4: dialogues that people shared."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SHAREGPT_GPT4 = DatasetCard(
    name="sharegpt_gpt4",
    description="Dialogues with GPT-4 that people shared.",
    kind="chat",
    language=(
        "en",
        "zh",
    ),
    licence="CC-BY-NC-4.0",
    hf_id="shibing624/sharegpt_gpt4",
    ms_id="AI-ModelScope/sharegpt_gpt4",
    hub_subset="default",
    hub_subsets=("default", "V3_format", "zh_38K_format"),
    examples=(
        {
            "conversations": [
                {"from": "human", "value": "How high is it?"},
                {"from": "gpt", "value": "Forty-one metres."},
            ]
        },
        {"conversations": [{"from": "human", "value": "它有多高？"}, {"from": "gpt", "value": "四十一米。"}]},
    ),
)
