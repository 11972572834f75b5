"""A-OKVQA: questions about pictures with choices and reasons; the first reason stands before the answer."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import UNKNOWN, DatasetCard
from ..errors import BadRow
from ..fields import get, quote, shorten, to_list, to_text
from ._prepare import take_first


def _reason(raw: Mapping[str, object]) -> dict[str, object]:
    choices = to_list(get(raw, "choices", field="the row"), field="choices", of="texts")
    index = get(raw, "correct_choice_idx", field="the row")
    if not isinstance(index, int) or not 0 <= index < len(choices):
        raise BadRow(
            "invalid value", f"'correct_choice_idx' is {shorten(index)}; expected one of {len(choices)} choices"
        )
    answer = to_text(choices[index], field=f"choices[{index}]")
    question = to_text(get(raw, "question", field="the row"), field="question")
    return {
        "image": raw.get("image"),
        "query": f"{question}\nChoices: {quote(map(str, choices))}",
        "response": f"{take_first(raw, 'rationales')} The answer is {answer}.",
        "solution": answer,
    }


A_OKVQA = DatasetCard(
    name="a_okvqa",
    description="Questions about pictures with choices and reasons.",
    kind="vision",
    language=("en",),
    licence=UNKNOWN,
    hf_id="HuggingFaceM4/A-OKVQA",
    ms_id="swift/A-OKVQA",
    prepare=_reason,
    examples=(
        {
            "image": {"bytes": None, "path": "1.jpg"},
            "question_id": "a1",
            "question": "What is the tower for?",
            "choices": ["bells", "light"],
            "correct_choice_idx": 1,
            "rationales": ["There is a lamp at its top.", "It stands by the sea."],
        },
        {
            "image": {"bytes": None, "path": "2.jpg"},
            "question_id": "a2",
            "question": "What moves the boat?",
            "choices": ["wind", "steam"],
            "correct_choice_idx": 0,
            "rationales": ["It has a sail."],
        },
    ),
)
