"""GSM8K: problems of primary school; the steps end with '#### ' and the answer, which becomes the solution."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..errors import BadRow
from ..fields import get, shorten, to_text

_MARK = "#### "


def _find_solution(raw: Mapping[str, object]) -> dict[str, object]:
    answer = to_text(get(raw, "answer", field="the row"), field="answer")
    _, mark, solution = answer.rpartition(_MARK)
    if not mark:
        raise BadRow("invalid value", f"'answer' is {shorten(answer)}; expected the final number after {_MARK!r}")
    return {**raw, "solution": solution.strip()}


GSM8K = DatasetCard(
    name="gsm8k",
    description="School problems with steps and a final number.",
    kind="chat",
    language=("en",),
    licence="MIT",
    hf_id="openai/gsm8k",
    ms_id="AI-ModelScope/gsm8k",
    hub_subset="main",
    hub_subsets=("main", "socratic"),
    prepare=_find_solution,
    examples=(
        {"question": "Two boats with 3 men each. How many?", "answer": "2 * 3 = <<2*3=6>>6 men.\n#### 6"},
        {"question": "Ann had 5 apples and ate 2. How many now?", "answer": "5 - 2 = <<5-2=3>>3 apples.\n#### 3"},
    ),
)
