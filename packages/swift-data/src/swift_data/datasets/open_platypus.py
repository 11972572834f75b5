"""Open-Platypus: questions of science and logic from eleven sources."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

OPEN_PLATYPUS = DatasetCard(
    name="open_platypus",
    description="Questions of science and logic.",
    kind="chat",
    language=("en",),
    licence=UNKNOWN,
    hf_id="garage-bAInd/Open-Platypus",
    ms_id="AI-ModelScope/Open-Platypus",
    examples=(
        {"input": "", "output": "3 times 3 is 9.", "instruction": "What is 3 times 3?", "data_source": "made-up"},
        {"input": "", "output": "Water.", "instruction": "What is H2O?", "data_source": "made-up"},
    ),
)
