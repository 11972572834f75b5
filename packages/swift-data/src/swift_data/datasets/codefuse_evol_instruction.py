"""CodeFuse Evol-instruction: 66,000 programming tasks that were made harder step by step."""

from __future__ import annotations

from ..dataset_card import DatasetCard

CODEFUSE_EVOL_INSTRUCTION = DatasetCard(
    name="codefuse_evol_instruction",
    description="Programming tasks made harder step by step.",
    kind="chat",
    language=("en",),
    licence="CC-BY-NC-SA-4.0",
    hf_id="codefuse-ai/Evol-instruction-66k",
    ms_id="codefuse-ai/Evol-instruction-66k",
    examples=(
        {
            "id": 0,
            "instruction": "Sum a list in Python without sum().",
            "output": "total = 0\nfor x in items:\n    total += x",
        },
        {"id": 1, "instruction": "Reverse a text in Python.", "output": "text[::-1]"},
    ),
)
