"""shareAI DPO: each question answered in Chinese, which is preferred, and in English, with emojis."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SHAREAI_DPO = DatasetCard(
    name="shareai_dpo",
    description="Answers in Chinese, preferred over those in English.",
    kind="preference",
    language=(
        "zh",
        "en",
    ),
    licence="Apache-2.0",
    hf_id="shareAI/DPO-zh-en-emoji",
    ms_id="hjh0119/shareAI-Llama3-DPO-zh-en-emoji",
    columns={"answer_zh": "response", "answer_en": "rejected_response"},
    examples=(
        {"question": "灯塔有多高？", "answer_zh": "四十一米。", "answer_en": "Forty-one metres."},
        {"question": "船回来了吗？", "answer_zh": "回来了。", "answer_en": "Yes, it has."},
    ),
)
