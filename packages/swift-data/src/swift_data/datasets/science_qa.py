"""ScienceQA: questions of school science with choices and explanations, some with a picture."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..errors import BadRow
from ..fields import get, quote, shorten, to_list, to_text


def _explain(raw: Mapping[str, object]) -> dict[str, object]:
    choices = to_list(get(raw, "choices", field="the row"), field="choices", of="texts")
    index = get(raw, "answer", field="the row")
    if not isinstance(index, int) or not 0 <= index < len(choices):
        raise BadRow(
            "invalid value", f"'answer' is {shorten(index)}; expected the place of one of {len(choices)} choices"
        )
    answer = to_text(choices[index], field=f"choices[{index}]")
    question = to_text(get(raw, "question", field="the row"), field="question")
    explanation = to_text(raw.get("solution") or "", field="solution")
    return {
        "image": raw.get("image"),
        "query": f"{question}\nChoices: {quote(map(str, choices))}",
        "response": f"{explanation}\nThe answer is {answer}.".strip(),
        "solution": answer,
    }


SCIENCE_QA = DatasetCard(
    name="science_qa",
    description="Questions of school science, some with pictures.",
    kind="vision",
    language=("en",),
    licence="CC-BY-SA-4.0",
    hf_id="derek-thomas/ScienceQA",
    ms_id="swift/ScienceQA",
    prepare=_explain,
    examples=(
        {
            "image": {"bytes": None, "path": "1.png"},
            "question": "Which of these shines by itself?",
            "choices": ["the lamp", "the mirror"],
            "answer": 0,
            "hint": "",
            "solution": "A mirror only sends light back.",
        },
        {
            "image": None,
            "question": "What is ice?",
            "choices": ["a gas", "a solid"],
            "answer": 1,
            "hint": "",
            "solution": "Ice keeps its shape.",
        },
    ),
)
