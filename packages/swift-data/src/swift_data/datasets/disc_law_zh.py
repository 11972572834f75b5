"""DISC-Law-SFT: tasks of Chinese law with answers."""

from __future__ import annotations

from ..dataset_card import DatasetCard

DISC_LAW_ZH = DatasetCard(
    name="disc_law_zh",
    description="Tasks of Chinese law with answers.",
    kind="chat",
    language=("zh",),
    licence="Apache-2.0",
    hf_id="ShengbinYue/DISC-Law-SFT",
    ms_id="AI-ModelScope/DISC-Law-SFT",
    examples=(
        {"id": "a-1", "input": "捡到东西要归还吗？", "output": "应当归还失主。"},
        {"id": "a-2", "input": "口头约定有效吗？", "output": "一般有效，但是难以证明。"},
    ),
)
