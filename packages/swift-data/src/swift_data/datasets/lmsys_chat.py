"""LMSYS-Chat-1M: a million dialogues of people with 25 models; to be had after agreeing to its terms."""

from __future__ import annotations

from ..dataset_card import DatasetCard

LMSYS_CHAT = DatasetCard(
    name="lmsys_chat",
    description="Dialogues of people with many models.",
    kind="chat",
    language=("en",),
    licence="LicenseRef-LMSYS-Chat-1M",
    hf_id="lmsys/lmsys-chat-1m",
    ms_id="AI-ModelScope/lmsys-chat-1m",
    examples=(
        {
            "conversation_id": "a1",
            "model": "made-up",
            "conversation": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "Forty-one metres."},
            ],
            "turn": 1,
            "language": "English",
        },
        {
            "conversation_id": "a2",
            "model": "made-up",
            "conversation": [
                {"role": "user", "content": "灯塔在哪里？"},
                {"role": "assistant", "content": "在海边。"},
            ],
            "turn": 1,
            "language": "Chinese",
        },
    ),
)
