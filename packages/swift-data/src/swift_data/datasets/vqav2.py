"""VQAv2: short questions about pictures of COCO, with the most common answer in a column of its own."""

from __future__ import annotations

from ..dataset_card import DatasetCard

VQAV2 = DatasetCard(
    name="vqav2",
    description="Short questions about pictures.",
    kind="vision",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="HuggingFaceM4/VQAv2",
    ms_id="swift/VQAv2",
    columns={"question": "query", "multiple_choice_answer": "response", "answers": "_"},
    examples=(
        {
            "question_id": 1,
            "question": "Is it day?",
            "image": {"bytes": None, "path": "1.jpg"},
            "multiple_choice_answer": "yes",
        },
        {
            "question_id": 2,
            "question": "How many boats?",
            "image": {"bytes": None, "path": "2.jpg"},
            "multiple_choice_answer": "1",
        },
    ),
)
