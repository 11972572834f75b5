"""ClothoAQA: questions about recordings of everyday sounds."""

from __future__ import annotations

from ..dataset_card import DatasetCard

CLOTHO_AQA = DatasetCard(
    name="clotho_aqa",
    description="Questions about everyday sounds.",
    kind="audio",
    language=("en",),
    licence="MIT",
    hf_id="lmms-lab/ClothoAQA",
    hub_subset="clotho_aqa",
    split="clotho_aqa_test_filtered",
    examples=(
        {"audio": {"bytes": None, "path": "sea.wav"}, "question": "Is the sea to be heard?", "answer": "yes"},
        {"audio": {"bytes": None, "path": "bell.wav"}, "question": "How often does the bell ring?", "answer": "twice"},
    ),
)
