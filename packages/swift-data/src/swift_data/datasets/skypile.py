"""SkyPile: web pages in Chinese, filtered."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SKYPILE = DatasetCard(
    name="skypile",
    description="Filtered web pages in Chinese.",
    kind="text",
    language=("zh",),
    licence="LicenseRef-Skywork-Community",
    hf_id="Skywork/SkyPile-150B",
    ms_id="AI-ModelScope/SkyPile-150B",
    examples=(
        {"text": "灯塔建于1871年。"},
        {"text": "黄昏时，船都回来了。"},
    ),
)
