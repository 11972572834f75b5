"""Magpie: 300,000 instructions that Qwen2-72B asked itself, filtered."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

MAGPIE_QWEN2_PRO = DatasetCard(
    name="magpie_qwen2_pro",
    description="Instructions and answers that a model made up, filtered.",
    kind="chat",
    language=(
        "en",
        "zh",
    ),
    licence=UNKNOWN,
    hf_id="Magpie-Align/Magpie-Qwen2-Pro-300K-Filtered",
    ms_id="AI-ModelScope/Magpie-Qwen2-Pro-300K-Filtered",
    columns={"instruction": "_", "response": "_"},
    examples=(
        {
            "uuid": "1",
            "instruction": "How high is it?",
            "response": "Forty-one metres.",
            "conversations": [
                {"from": "human", "value": "How high is it?"},
                {"from": "gpt", "value": "Forty-one metres."},
            ],
        },
        {
            "uuid": "2",
            "instruction": "Capital of Norway?",
            "response": "Oslo.",
            "conversations": [{"from": "human", "value": "Capital of Norway?"}, {"from": "gpt", "value": "Oslo."}],
        },
    ),
)
