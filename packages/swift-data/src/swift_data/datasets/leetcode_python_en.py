"""LeetCode: problems with a solution in Python and an explanation.

A problem and its code stand in one column, the explanation in another; the code and the explanation become the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import UNKNOWN, DatasetCard
from ..errors import BadRow
from ..fields import get, to_text

_FENCE = "```python"


def _split_problem(raw: Mapping[str, object]) -> dict[str, object]:
    both = to_text(get(raw, "code_with_problem", field="the row"), field="code_with_problem")
    problem, fence, code = both.partition(_FENCE)
    if not fence:
        raise BadRow("invalid value", f"'code_with_problem' holds no {_FENCE!r}; expected the problem, then its code")
    explanation = to_text(get(raw, "explanation_only", field="the row"), field="explanation_only")
    return {
        "query": problem.removeprefix("# ").strip(),
        "response": f"{fence}{code.rstrip()}\n\n{explanation}".strip(),
    }


LEETCODE_PYTHON_EN = DatasetCard(
    name="leetcode_python_en",
    description="Programming problems with solutions in Python, explained.",
    kind="chat",
    language=("en",),
    licence=UNKNOWN,
    hf_id="mhhmm/leetcode-solutions-python",
    ms_id="AI-ModelScope/leetcode-solutions-python",
    prepare=_split_problem,
    examples=(
        {
            "id": 0,
            "code_with_problem": "# Double\n\nDouble a number.\n\n```python\ndef double(x):\n    return 2 * x\n```",
            "code_only": "def double(x):\n    return 2 * x",
            "explanation_only": "Multiplying by two doubles the number.",
        },
        {
            "id": 1,
            "code_with_problem": "# Last\n\nGet the last.\n\n```python\ndef last(items):\n    return items[-1]\n```",
            "code_only": "def last(items):\n    return items[-1]",
            "explanation_only": "The index -1 counts from the end.",
        },
    ),
)
