"""UltraFeedback for KTO: cleaned answers with a mark, good or bad; texts in two columns."""

from __future__ import annotations

from ..dataset_card import DatasetCard

ULTRAFEEDBACK_KTO = DatasetCard(
    name="ultrafeedback_kto",
    description="Answers marked as good or bad.",
    kind="kto",
    language=("en",),
    licence="MIT",
    hf_id="argilla/ultrafeedback-binarized-preferences-cleaned-kto",
    ms_id="AI-ModelScope/ultrafeedback-binarized-preferences-cleaned-kto",
    examples=(
        {"prompt": "How high is it?", "completion": "41 metres.", "label": True},
        {"prompt": "Capital of Norway?", "completion": "Bergen.", "label": False},
    ),
)
