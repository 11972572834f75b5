"""Stack Exchange, paired: two answers to each question; j has more votes than k."""

from __future__ import annotations

from ..dataset_card import UNKNOWN, DatasetCard

STACK_EXCHANGE_PAIRED = DatasetCard(
    name="stack_exchange_paired",
    description="Pairs of answers from a forum, by votes.",
    kind="preference",
    language=("en",),
    licence=UNKNOWN,
    hf_id="lvwerra/stack-exchange-paired",
    ms_id="AI-ModelScope/stack-exchange-paired",
    columns={"response_j": "response", "response_k": "rejected_response"},
    examples=(
        {
            "qid": 1,
            "question": "How do I reverse a text?",
            "response_j": "Write `text[::-1]`.",
            "response_k": "Use a loop.",
        },
        {
            "qid": 2,
            "question": "How do I copy a list?",
            "response_j": "Write `list(items)`.",
            "response_k": "You cannot.",
        },
    ),
)
