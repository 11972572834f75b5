"""ORPO-DPO-mix: 40,000 pairs of good sets; the prompt stands in both answers, and beside them once more."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ORPO_DPO_MIX = DatasetCard(
    name="orpo_dpo_mix",
    description="A mixture of good sets of pairs.",
    kind="preference",
    language=("en",),
    licence="Apache-2.0",
    hf_id="mlabonne/orpo-dpo-mix-40k",
    ms_id="AI-ModelScope/orpo-dpo-mix-40k",
    examples=(
        {
            "source": "made-up",
            "chosen": [{"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "41 metres."}],
            "rejected": [{"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "Very."}],
            "prompt": "How high is it?",
            "question": "How high is it?",
        },
        {
            "source": "made-up",
            "chosen": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
            "rejected": [
                {"role": "user", "content": "Capital of Norway?"},
                {"role": "assistant", "content": "Bergen."},
            ],
            "prompt": "Capital of Norway?",
            "question": "Capital of Norway?",
        },
    ),
)
