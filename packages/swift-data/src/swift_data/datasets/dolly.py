"""Dolly: 15,000 instructions and answers, written by the people of Databricks; some with a text to look at."""

from __future__ import annotations

from ..dataset_card import DatasetCard

DOLLY = DatasetCard(
    name="dolly",
    description="Instructions and answers written by people.",
    kind="chat",
    language=("en",),
    licence="CC-BY-SA-3.0",
    hf_id="databricks/databricks-dolly-15k",
    ms_id="AI-ModelScope/databricks-dolly-15k",
    columns={"context": "input", "response": "output"},
    examples=(
        {
            "instruction": "How high is it?",
            "context": "It rises 41 m.",
            "response": "41 metres.",
            "category": "closed_qa",
        },
        {"instruction": "Name a colour.", "context": "", "response": "Blue.", "category": "brainstorming"},
    ),
)
