"""Tulu 3: the mixture that Tulu 3 was fine-tuned on, of many sources."""

from __future__ import annotations

from ..dataset_card import DatasetCard

TULU_3 = DatasetCard(
    name="tulu_3",
    description="The mixture that Tulu 3 was fine-tuned on.",
    kind="chat",
    language=("en",),
    licence="ODC-By-1.0",
    hf_id="allenai/tulu-3-sft-mixture",
    ms_id="allenai/tulu-3-sft-mixture",
    examples=(
        {
            "id": "made_up_0",
            "messages": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "Forty-one metres."},
            ],
            "source": "made-up",
        },
        {
            "id": "made_up_1",
            "messages": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
            "source": "made-up",
        },
    ),
)
