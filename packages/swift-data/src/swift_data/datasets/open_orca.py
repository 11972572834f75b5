"""OpenOrca: questions of FLAN with answers by GPT-4 and GPT-3.5, most under a system prompt."""

from __future__ import annotations

from ..dataset_card import DatasetCard

OPEN_ORCA = DatasetCard(
    name="open_orca",
    description="Questions of FLAN with explained answers.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="Open-Orca/OpenOrca",
    ms_id="AI-ModelScope/OpenOrca",
    columns={"system_prompt": "system"},
    examples=(
        {
            "id": "flan.1",
            "system_prompt": "Explain your answer.",
            "question": "Is 9 a prime?",
            "response": "No, it is 3 times 3.",
        },
        {"id": "niv.2", "system_prompt": "", "question": "Capital of Norway?", "response": "Oslo."},
    ),
)
