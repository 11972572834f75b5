"""Zhihu RLHF: questions with answers that people liked more and less."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ZHIHU_RLHF_ZH = DatasetCard(
    name="zhihu_rlhf_zh",
    description="Pairs of answers from a forum, in Chinese.",
    kind="preference",
    language=("zh",),
    licence="CC-BY-2.0",
    hf_id="liyucheng/zhihu_rlhf_3k",
    ms_id="AI-ModelScope/zhihu_rlhf_3k",
    examples=(
        {"prompt": "灯塔为什么是白色的？", "chosen": "白天更容易看见。", "rejected": "不知道。"},
        {"prompt": "海水为什么是咸的？", "chosen": "河水带来了盐。", "rejected": "就是这样。"},
    ),
)
