"""Contains: is the row's `solution` in the completion?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ..reward import Column, Reward, RewardExample


class Contains(Reward):
    """1.0 where the completion holds the solution as whole words, else 0.0; NaN where the row has no solution.

    Upper and lower case count as the same, and so do all kinds of white space. '7' is not in '17', but is in '7.5',
    where the point ends a word.
    """

    needs = ("solution",)
    examples = (
        RewardExample(completion="It is the OLD mill, I think.", columns={"solution": "old mill"}, reward=1.0),
        RewardExample(completion="There are 17.", columns={"solution": "7"}, reward=0.0),
        RewardExample(completion="Written in C++.", columns={"solution": "c++"}, reward=1.0),
        RewardExample(completion="Anything.", columns={"solution": None}, reward=math.nan),
    )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Look for each solution in its completion."""
        return [
            _contains(completion, solution)
            for completion, solution in zip(completions, columns["solution"], strict=True)
        ]


def _contains(completion: str, solution: object) -> float:
    # A solution of a JSON row may be a number.
    words = ("" if solution is None else str(solution)).casefold().split()
    if not words:
        return math.nan
    pattern = r"\s+".join(map(re.escape, words))
    # A solution may begin or end with a sign, such as 'C++': only letters and digits can be in the middle of a word.
    before = r"(?<!\w)" if words[0][0].isalnum() else ""
    after = r"(?!\w)" if words[-1][-1].isalnum() else ""
    return float(re.search(before + pattern + after, completion.casefold()) is not None)
