"""School math: 250,000 problems of primary school with steps, in Chinese, by BELLE."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SCHOOL_MATH_ZH = DatasetCard(
    name="school_math_zh",
    description="School problems with the steps of their solution, in Chinese.",
    kind="chat",
    language=("zh",),
    licence="GPL-3.0",
    hf_id="BelleGroup/school_math_0.25M",
    ms_id="AI-ModelScope/school_math_0.25M",
    examples=(
        {
            "instruction": "小明有3个苹果，又买了2个，现在有几个？",
            "input": "",
            "output": "3 + 2 = 5，所以现在有5个苹果。",
        },
        {"instruction": "一本书20元，4本书多少元？", "input": "", "output": "20 × 4 = 80，所以一共80元。"},
    ),
)
