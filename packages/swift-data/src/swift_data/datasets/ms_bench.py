"""MS-Bench: dialogues of several turns that ModelScope collected, in Chinese and English."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

MS_BENCH = DatasetCard(
    name="ms_bench",
    description="General dialogues collected by ModelScope.",
    kind="chat",
    language=(
        "zh",
        "en",
    ),
    licence=UNKNOWN,
    ms_id="iic/ms_bench",
    examples=(
        {"conversations": [{"from": "user", "value": "灯塔有多高？"}, {"from": "assistant", "value": "四十一米。"}]},
        {
            "conversations": [
                {"from": "system", "value": "You are a helpful assistant."},
                {"from": "user", "value": "How high is the lighthouse?"},
                {"from": "assistant", "value": "Forty-one metres."},
                {"from": "user", "value": "In feet?"},
                {"from": "assistant", "value": "About 135 feet."},
            ]
        },
    ),
)
