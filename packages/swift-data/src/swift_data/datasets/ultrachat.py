"""UltraChat 200k: dialogues of several turns, filtered for Zephyr."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ULTRACHAT = DatasetCard(
    name="ultrachat",
    description="Dialogues of several turns about many subjects.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="HuggingFaceH4/ultrachat_200k",
    ms_id="swift/ultrachat_200k",
    split="train_sft",
    columns={"prompt": "_"},
    examples=(
        {
            "prompt": "How high is it?",
            "prompt_id": "a1",
            "messages": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "Forty-one metres."},
            ],
        },
        {
            "prompt": "Capital of Norway?",
            "prompt_id": "a2",
            "messages": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
        },
    ),
)
