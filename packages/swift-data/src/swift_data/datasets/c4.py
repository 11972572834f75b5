"""C4: web pages of 2019, cleaned, for T5."""

from __future__ import annotations

from ..dataset_card import DatasetCard

C4 = DatasetCard(
    name="c4",
    description="Cleaned web pages.",
    kind="text",
    language=("en",),
    licence="ODC-By-1.0",
    hf_id="allenai/c4",
    ms_id="allenai/c4",
    hub_subset="en",
    examples=(
        {
            "text": "The lighthouse was built in 1871.",
            "timestamp": "2019-04-25T12:57:54Z",
            "url": "https://example.org/1",
        },
        {"text": "Boats come back at dusk.", "timestamp": "2019-04-21T10:07:13Z", "url": "https://example.org/2"},
    ),
)
