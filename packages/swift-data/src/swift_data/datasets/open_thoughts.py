"""OpenThoughts: problems with the long thoughts of DeepSeek-R1 before the answers."""

from __future__ import annotations

from ..dataset_card import DatasetCard

OPEN_THOUGHTS = DatasetCard(
    name="open_thoughts",
    description="Problems with long thoughts before the answers.",
    kind="chat",
    language=("en",),
    licence="Apache-2.0",
    hf_id="open-thoughts/OpenThoughts-114k",
    ms_id="open-thoughts/OpenThoughts-114k",
    examples=(
        {
            "system": "Think, then answer.",
            "conversations": [
                {"from": "user", "value": "Is 9 a prime?"},
                {"from": "assistant", "value": "<think>3 times 3 is 9.</think>No."},
            ],
        },
        {
            "system": "Think, then answer.",
            "conversations": [
                {"from": "user", "value": "Is 7 a prime?"},
                {"from": "assistant", "value": "<think>Only 1 and 7 divide it.</think>Yes."},
            ],
        },
    ),
)
