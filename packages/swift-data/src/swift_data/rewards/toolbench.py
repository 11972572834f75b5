"""ToolBench: does the completion call the tool that the reference calls, with the same arguments?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..reward import Column, Reward, RewardExample
from ._react import Call, find_call


@dataclass(frozen=True, kw_only=True)
class Toolbench(Reward):
    """1.0 where a completion's call is that of the row's `solution`, else 0.0; NaN where the row has no solution.

    Both are read from ReACT's lines, 'Action: name' and 'Action Input: {...}'; the last call counts. Where the
    reference calls nothing, calling nothing is right. The measure is the F1 of arguments: one of the reference's counts
    1 with its value and 0.5 with another, over the arguments of each side.

    Source: ModelScope-Agent, arXiv 2309.00986, section 4 (Action Exact Match and Argument F1). Deviation: arguments
    that are no JSON object count as right only word by word, where the paper takes ROUGE-L.
    """

    partial: bool = False
    """Give the F1 of the arguments of the right tool instead of nothing for a call that is right in part."""

    needs = ("solution",)
    examples = (
        RewardExample(
            completion='Thought: Hm.\nAction: f\nAction Input: {"b": 2, "a": 1}\nObservation:',
            columns={"solution": 'Thought: I see.\nAction: f\nAction Input: {"a": 1, "b": 2}'},
            reward=1.0,
        ),
        RewardExample(
            completion='Action: f\nAction Input: {"a": 7}',
            columns={"solution": 'Action: f\nAction Input: {"a": 1}'},
            reward=0.0,
        ),
        RewardExample(
            completion="Action: g\nAction Input: {}", columns={"solution": "Action: f\nAction Input: {}"}, reward=0.0
        ),
        RewardExample(completion="Final Answer: 4", columns={"solution": "Final Answer: four"}, reward=1.0),
        RewardExample(completion="Action: f", columns={"solution": None}, reward=math.nan),
    )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Compare each call with the reference's."""
        return [
            self._compare(completion, solution)
            for completion, solution in zip(completions, columns["solution"], strict=True)
        ]

    def _compare(self, completion: str, solution: object) -> float:
        if not isinstance(solution, str) or not solution.strip():
            return math.nan
        agreement = _agree(find_call(completion), find_call(solution))
        return agreement if self.partial else float(agreement == 1.0)


def _agree(call: Call | None, reference: Call | None) -> float:
    if call is None or reference is None:
        return float(call is reference)
    if call.action != reference.action:
        return 0.0
    given, wanted = call.arguments, reference.arguments
    if isinstance(given, str) or isinstance(wanted, str):
        words = isinstance(given, str) and isinstance(wanted, str) and given.split() == wanted.split()
        return float(words)
    if not given or not wanted:
        return float(not given and not wanted)
    # F1 = 2 p r / (p + r) with p = found / |given|, r = found / |wanted| is 2 found / (|given| + |wanted|).
    found = sum(1.0 if _same(given[name], value) else 0.5 for name, value in wanted.items() if name in given)
    return 2 * found / (len(given) + len(wanted))


def _same(one: object, other: object) -> bool:
    # In Python, but not in JSON, true is 1.
    return isinstance(one, bool) == isinstance(other, bool) and one == other
