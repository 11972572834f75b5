"""Distilled from DeepSeek-R1: questions in Chinese with thoughts and answers in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get


def _keep_thoughts_apart(raw: Mapping[str, object]) -> dict[str, object]:
    answer = {
        "role": "assistant",
        "content": get(raw, "content", field="the row"),
        "reasoning_content": raw.get("reasoning_content"),
    }
    return {"messages": [{"role": "user", "content": get(raw, "input", field="the row")}, answer]}


DEEPSEEK_R1_DISTILL_ZH = DatasetCard(
    name="deepseek_r1_distill_zh",
    description="Questions in Chinese with thoughts and answers of DeepSeek-R1.",
    kind="chat",
    language=("zh",),
    licence="Apache-2.0",
    hf_id="Congliu/Chinese-DeepSeek-R1-Distill-data-110k",
    ms_id="liucong/Chinese-DeepSeek-R1-Distill-data-110k",
    prepare=_keep_thoughts_apart,
    examples=(
        {
            "input": "9是质数吗？",
            "reasoning_content": "9等于3乘3。",
            "content": "不是。",
            "repo_name": "made-up",
            "score": 10,
        },
        {
            "input": "7是质数吗？",
            "reasoning_content": "只有1和7能整除它。",
            "content": "是。",
            "repo_name": "made-up",
            "score": 9,
        },
    ),
)
