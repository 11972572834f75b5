"""Alpaca with answers by GPT-4, in Chinese; `alpaca-gpt4-zh` is the same.

Inputs begin with a label, which says nothing and goes out.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import to_text

_LABEL = "输入："


def _without_label(raw: Mapping[str, object]) -> dict[str, object]:
    given = raw.get("input")
    text = "" if given is None else to_text(given, field="input")
    return {**raw, "input": text.removeprefix(_LABEL)}


ALPACA_ZH = DatasetCard(
    name="alpaca_zh",
    description="Alpaca's instructions with answers by GPT-4, in Chinese.",
    kind="chat",
    language=("zh",),
    licence="CC-BY-4.0",
    hf_id="llm-wizard/alpaca-gpt4-data-zh",
    ms_id="AI-ModelScope/alpaca-gpt4-data-zh",
    prepare=_without_label,
    examples=(
        {"instruction": "列出交通灯的三种颜色。", "input": "", "output": "红色、黄色和绿色。"},
        {
            "instruction": "把句子改成将来发生的事。",
            "input": "输入：守塔人点亮了灯。",
            "output": "守塔人明天会点亮灯。",
        },
    ),
)
