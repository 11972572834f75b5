"""Agent-FLAN: runs of agents, put into the form of dialogues."""

from __future__ import annotations

from ..dataset_card import DatasetCard

AGENT_FLAN = DatasetCard(
    name="agent_flan",
    description="Runs of agents as dialogues.",
    kind="agent",
    language=("en",),
    licence="Apache-2.0",
    hf_id="internlm/Agent-FLAN",
    ms_id="AI-ModelScope/Agent-FLAN",
    split="agent_instruct_react",
    examples=(
        {
            "id": "0",
            "conversation": [
                {"role": "user", "content": "Is the light on? You may ask the lamp.", "loss": False},
                {"role": "assistant", "content": "I ask the lamp.", "loss": True},
                {"role": "user", "content": "The lamp says: on.", "loss": False},
                {"role": "assistant", "content": "It is on.", "loss": True},
            ],
        },
        {
            "id": "1",
            "conversation": [
                {"role": "user", "content": "Ring the bell.", "loss": False},
                {"role": "assistant", "content": "I ring it.", "loss": True},
            ],
        },
    ),
)
