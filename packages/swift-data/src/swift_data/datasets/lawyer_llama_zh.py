"""Lawyer LLaMA: questions about Chinese law with answers."""

from __future__ import annotations

from ..dataset_card import DatasetCard

LAWYER_LLAMA_ZH = DatasetCard(
    name="lawyer_llama_zh",
    description="Questions about Chinese law with answers.",
    kind="chat",
    language=("zh",),
    licence="Apache-2.0",
    hf_id="Skepsun/lawyer_llama_data",
    ms_id="AI-ModelScope/lawyer_llama_data",
    columns={"history": "_"},
    examples=(
        {"instruction": "捡到东西要归还吗？", "input": "", "output": "应当归还失主。", "history": ""},
        {"instruction": "口头约定有效吗？", "input": "", "output": "一般有效，但是难以证明。", "history": ""},
    ),
)
