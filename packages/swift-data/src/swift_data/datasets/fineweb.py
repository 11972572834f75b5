"""FineWeb: fifteen trillion tokens of web pages, filtered."""

from __future__ import annotations

from ..dataset_card import DatasetCard

FINEWEB = DatasetCard(
    name="fineweb",
    description="Filtered web pages.",
    kind="text",
    language=("en",),
    licence="ODC-By-1.0",
    hf_id="HuggingFaceFW/fineweb",
    examples=(
        {
            "text": "The lighthouse was built in 1871.",
            "id": "<urn:uuid:1>",
            "dump": "made-up",
            "url": "https://example.org/1",
            "language": "en",
        },
        {
            "text": "Boats come back at dusk.",
            "id": "<urn:uuid:2>",
            "dump": "made-up",
            "url": "https://example.org/2",
            "language": "en",
        },
    ),
)
