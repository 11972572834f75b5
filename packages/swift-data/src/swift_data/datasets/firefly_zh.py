"""Firefly: 1.1 million instructions of 23 kinds, in Chinese."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

FIREFLY_ZH = DatasetCard(
    name="firefly_zh",
    description="Instructions of 23 kinds of tasks, in Chinese.",
    kind="chat",
    language=("zh",),
    licence=UNKNOWN,
    hf_id="YeungNLP/firefly-train-1.1M",
    ms_id="AI-ModelScope/firefly-train-1.1M",
    columns={"target": "output"},
    examples=(
        {"kind": "Translation", "input": "翻译成英文：灯塔很高。", "target": "The lighthouse is high."},
        {"kind": "NLI", "input": "灯塔比船高。船比灯塔矮吗？", "target": "是的。"},
    ),
)
