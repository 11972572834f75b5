"""CoT: questions with the reasoning before their answers, in Chinese."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

COT_ZH = DatasetCard(
    name="cot_zh",
    description="Questions with reasoning before the answer, in Chinese.",
    kind="chat",
    language=("zh",),
    licence=UNKNOWN,
    ms_id="YorickHe/CoT_zh",
    examples=(
        {"instruction": "9是质数吗？", "input": "", "output": "9等于3乘3，所以它有别的因数。答案是：不是。"},
        {"instruction": "推理后回答。", "input": "鲸鱼会爬树吗？", "output": "鲸鱼没有腿。答案是：不会。"},
    ),
)
