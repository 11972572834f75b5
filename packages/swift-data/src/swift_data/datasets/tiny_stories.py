"""TinyStories: short stories in the words of small children, for very small models."""

from __future__ import annotations

from ..dataset_card import DatasetCard

TINY_STORIES = DatasetCard(
    name="tiny_stories",
    description="Short stories in simple words.",
    kind="text",
    language=("en",),
    licence="CDLA-Sharing-1.0",
    hf_id="roneneldan/TinyStories",
    ms_id="AI-ModelScope/TinyStories",
    examples=(
        {"text": "Once there was a little lamp. It liked the sea."},
        {"text": "A boat was lost. The lamp showed it the way home."},
    ),
)
