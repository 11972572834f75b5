"""AdvertiseGen: keywords of clothes and advertisements made of them, in Chinese."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ADVERTISE_GEN_ZH = DatasetCard(
    name="advertise_gen_zh",
    description="Advertisements from keywords, in Chinese.",
    kind="chat",
    language=("zh",),
    licence="CC-BY-4.0",
    hf_id="shibing624/AdvertiseGen",
    ms_id="lvjianjin/AdvertiseGen",
    columns={"content": "query", "summary": "response"},
    examples=(
        {"content": "类型#外套*颜色#蓝色", "summary": "这件蓝色外套像大海一样。"},
        {"content": "类型#帽子*材质#羊毛", "summary": "羊毛帽子，冬天也暖和。"},
    ),
)
