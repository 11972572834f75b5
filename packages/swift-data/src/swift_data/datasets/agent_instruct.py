"""AgentInstruct: runs of an agent in six surroundings; each answer says whether it is to be trained on."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

AGENT_INSTRUCT = DatasetCard(
    name="agent_instruct",
    description="Runs of an agent in six surroundings.",
    kind="agent",
    language=("en",),
    licence=UNKNOWN,
    hf_id="THUDM/AgentInstruct",
    ms_id="huangjintao/AgentInstruct_copy",
    split="os",
    examples=(
        {
            "id": "os_0",
            "conversations": [
                {"from": "human", "loss": None, "value": "You have a shell. Say 'Act: ' and a command."},
                {"from": "gpt", "loss": False, "value": "OK."},
                {"from": "human", "loss": None, "value": "How many files are here?"},
                {"from": "gpt", "loss": True, "value": "Act: ls | wc -l"},
            ],
        },
        {
            "id": "os_1",
            "conversations": [
                {"from": "human", "loss": None, "value": "Which day is it?"},
                {"from": "gpt", "loss": True, "value": "Act: date"},
            ],
        },
    ),
)
