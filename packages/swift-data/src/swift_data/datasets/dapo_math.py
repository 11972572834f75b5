"""DAPO-Math-17k: problems with whole numbers as answers, for rewards."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import DatasetCard
from ..fields import get, to_object


def _find_solution(raw: Mapping[str, object]) -> dict[str, object]:
    truth = to_object(get(raw, "reward_model", field="the row"), field="reward_model")
    return {**raw, "solution": get(truth, "ground_truth", field="reward_model")}


DAPO_MATH = DatasetCard(
    name="dapo_math",
    description="Problems to be solved, with whole numbers as answers.",
    kind="prompt",
    language=("en",),
    licence="Apache-2.0",
    hf_id="BytedTsinghua-SIA/DAPO-Math-17k",
    ms_id="AI-ModelScope/DAPO-Math-17k",
    prepare=_find_solution,
    examples=(
        {
            "data_source": "made_up",
            "prompt": [{"role": "user", "content": "Solve step by step: what is 2 to the 3rd?"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "8", "style": "rule"},
            "extra_info": {"index": "1"},
        },
        {
            "data_source": "made_up",
            "prompt": [{"role": "user", "content": "Solve step by step: x + 1 = 3."}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "2", "style": "rule"},
            "extra_info": {"index": "2"},
        },
    ),
)
