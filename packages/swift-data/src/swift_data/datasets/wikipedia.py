"""Wikipedia: whole articles, cleaned; a subset for each language and date."""

from __future__ import annotations

from ..dataset_card import DatasetCard

WIKIPEDIA = DatasetCard(
    name="wikipedia",
    description="Encyclopedia articles.",
    kind="text",
    language=("en",),
    licence="CC-BY-SA-3.0",
    hf_id="wikimedia/wikipedia",
    ms_id="wikimedia/wikipedia",
    hub_subset="20231101.en",
    hub_subsets=("20231101.en", "20231101.zh", "20231101.de", "20231101.fr", "20231101.es", "20231101.ja"),
    examples=(
        {"id": "1", "url": "https://example.org/Light", "title": "Light", "text": "Light is what a lamp gives."},
        {"id": "2", "url": "https://example.org/Boat", "title": "Boat", "text": "A boat is a small ship."},
    ),
)
