"""UltraFeedback, binarized: for each prompt the best of four answers, and one of the others."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ULTRAFEEDBACK_BINARIZED = DatasetCard(
    name="ultrafeedback_binarized",
    description="Pairs of answers, ranked by GPT-4.",
    kind="preference",
    language=("en",),
    licence="MIT",
    hf_id="HuggingFaceH4/ultrafeedback_binarized",
    split="train_prefs",
    examples=(
        {
            "prompt": "How high is it?",
            "prompt_id": "a1",
            "chosen": [{"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "41 metres."}],
            "rejected": [{"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "Very."}],
            "messages": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "41 metres."},
            ],
            "score_chosen": 8.5,
            "score_rejected": 4.0,
        },
        {
            "prompt": "Capital of Norway?",
            "prompt_id": "a2",
            "chosen": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
            "rejected": [
                {"role": "user", "content": "Capital of Norway?"},
                {"role": "assistant", "content": "Bergen."},
            ],
            "messages": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
            "score_chosen": 9.0,
            "score_rejected": 2.0,
        },
    ),
)
