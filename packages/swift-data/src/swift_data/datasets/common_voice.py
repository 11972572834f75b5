"""Common Voice 17: sentences that volunteers read; a subset for each language."""

from __future__ import annotations

from ..dataset_card import DatasetCard

COMMON_VOICE = DatasetCard(
    name="common_voice",
    description="Sentences that volunteers read, with transcripts.",
    kind="audio",
    language=("en",),
    licence="CC0-1.0",
    hf_id="mozilla-foundation/common_voice_17_0",
    hub_subset="en",
    hub_subsets=("en", "zh-CN", "de", "fr", "es", "ja"),
    columns={"sentence": "response"},
    constants={"query": "Transcribe the speech."},
    examples=(
        {
            "path": "en_1.mp3",
            "audio": {"bytes": None, "path": "en_1.mp3"},
            "sentence": "The lamp is lit.",
            "up_votes": 2,
        },
        {
            "path": "en_2.mp3",
            "audio": {"bytes": None, "path": "en_2.mp3"},
            "sentence": "Boats come back.",
            "up_votes": 3,
        },
    ),
)
