"""WildChat: a million dialogues of people with GPT-3.5 and GPT-4."""

from __future__ import annotations

from ..dataset_card import DatasetCard

WILDCHAT = DatasetCard(
    name="wildchat",
    description="Dialogues of people with GPT-3.5 and GPT-4.",
    kind="chat",
    language=("en",),
    licence="ODC-By-1.0",
    hf_id="allenai/WildChat-1M",
    examples=(
        {
            "conversation_hash": "a1",
            "model": "made-up",
            "conversation": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "Forty-one metres."},
            ],
            "turn": 1,
            "language": "English",
        },
        {
            "conversation_hash": "a2",
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
