"""DISC-Med-SFT: dialogues of doctors and patients, in Chinese."""

from __future__ import annotations

from ..dataset_card import DatasetCard

DISC_MED_ZH = DatasetCard(
    name="disc_med_zh",
    description="Dialogues of doctors and patients, in Chinese.",
    kind="chat",
    language=("zh",),
    licence="Apache-2.0",
    hf_id="Flmc/DISC-Med-SFT",
    ms_id="AI-ModelScope/DISC-Med-SFT",
    examples=(
        {
            "_id": 0,
            "source": "made-up",
            "conversation": [
                {"role": "user", "content": "晚上睡不好怎么办？"},
                {"role": "assistant", "content": "早点休息，少喝咖啡。"},
            ],
        },
        {
            "_id": 1,
            "source": "made-up",
            "conversation": [
                {"role": "user", "content": "眼睛很累。"},
                {"role": "assistant", "content": "看看远处的灯塔吧。"},
            ],
        },
    ),
)
