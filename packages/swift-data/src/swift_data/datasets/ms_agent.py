"""MS-Agent: dialogues of several turns in which an assistant calls plugins; the calls are a part of the text."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

MS_AGENT = DatasetCard(
    name="ms_agent",
    description="Dialogues with calls of plugins.",
    kind="agent",
    language=(
        "zh",
        "en",
    ),
    licence=UNKNOWN,
    ms_id="iic/ms_agent",
    examples=(
        {
            "id": "0",
            "conversations": [
                {"from": "system", "value": "You may call plugins. Say which one as JSON."},
                {"from": "user", "value": "Is the light on?"},
                {"from": "assistant", "value": '{"api_name": "lamp", "parameters": {}}'},
                {"from": "user", "value": '{"lamp": "on"}'},
                {"from": "assistant", "value": "Yes, it is on."},
            ],
        },
        {
            "id": "1",
            "conversations": [
                {"from": "system", "value": "你可以调用插件，用JSON说明。"},
                {"from": "user", "value": "灯亮着吗？"},
                {"from": "assistant", "value": "亮着。"},
            ],
        },
    ),
)
