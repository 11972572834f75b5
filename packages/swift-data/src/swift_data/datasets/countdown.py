"""Countdown: reach a number out of three or four others; `target` and `nums` stay on the row for rewards."""

from __future__ import annotations

from collections.abc import Mapping

from ..dataset_card import UNKNOWN, DatasetCard
from ..fields import get, to_list


def _ask(raw: Mapping[str, object]) -> dict[str, object]:
    numbers = to_list(get(raw, "nums", field="the row"), field="nums", of="numbers")
    target = get(raw, "target", field="the row")
    given = ", ".join(map(str, numbers))
    query = f"Use each of the numbers {given} once, with + - * / and brackets, to reach {target}. Show your steps."
    return {**raw, "query": query}


COUNTDOWN = DatasetCard(
    name="countdown",
    description="Games with numbers, to be solved.",
    kind="prompt",
    language=("en",),
    licence=UNKNOWN,
    hf_id="Jiayi-Pan/Countdown-Tasks-3to4",
    ms_id="zouxuhong/Countdown-Tasks-3to4",
    prepare=_ask,
    examples=(
        {"target": 10, "nums": [2, 3, 4]},
        {"target": 24, "nums": [1, 2, 3, 4]},
    ),
)
