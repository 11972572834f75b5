"""No Robots: 10,000 instructions and answers, all written by people."""

from __future__ import annotations

from ..dataset_card import DatasetCard

NO_ROBOTS = DatasetCard(
    name="no_robots",
    description="Instructions and answers written by people.",
    kind="chat",
    language=("en",),
    licence="CC-BY-NC-4.0",
    hf_id="HuggingFaceH4/no_robots",
    ms_id="swift/no_robots",
    columns={"prompt": "_"},
    examples=(
        {
            "prompt": "How high is it?",
            "prompt_id": "a1",
            "messages": [
                {"role": "user", "content": "How high is it?"},
                {"role": "assistant", "content": "Forty-one metres."},
            ],
            "category": "Open QA",
        },
        {
            "prompt": "Capital of Norway?",
            "prompt_id": "a2",
            "messages": [{"role": "user", "content": "Capital of Norway?"}, {"role": "assistant", "content": "Oslo."}],
            "category": "Closed QA",
        },
    ),
)
