"""MSAgent-Bench: dialogues in which an assistant calls plugins, in Chinese.

The plugins are described in the system prompt, and calls are a part of the text.
"""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

DAMO_AGENT_ZH = DatasetCard(
    name="damo_agent_zh",
    description="Dialogues with calls of plugins.",
    kind="agent",
    language=("zh",),
    licence=UNKNOWN,
    ms_id="damo/MSAgent-Bench",
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
