"""ToolBench: does the completion call the tool that the reference calls, with the same arguments?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..reward import Column, Reward, RewardExample
from ._calls import find_calls
from ._react import Call

_ANSWER = re.compile(r"^[ \t]*Final Answer:", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Toolbench(Reward):
    """1.0 where a completion calls what the row's `solution` calls, else 0.0; NaN where that cannot be told.

    Both are read from ReACT's lines, 'Action: name' and 'Action Input: {...}', of which the last call counts; from JSON
    of calls; or in the dialect of a model, such as '<tool_call>', where all calls of an answer count, in any order.
    Where the reference has a 'Final Answer:', calling nothing is right; one with neither a call nor that gives NaN. The
    measure is the F1 of arguments: one of the reference's counts 1 with its value and 0.5 with another, over the
    arguments of each side.

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
        RewardExample(
            completion='<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
            columns={"solution": '[{"name": "f", "arguments": {"a": 1}}]'},
            reward=1.0,
        ),
        RewardExample(completion="Hello", columns={"solution": "Just words"}, reward=math.nan),
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
        wanted = find_calls(solution)
        if not wanted and not _ANSWER.search(solution):
            return math.nan
        agreement = _agree_all(find_calls(completion), wanted)
        return agreement if self.partial else float(agreement == 1.0)


def _agree_all(calls: Sequence[Call], references: Sequence[Call]) -> float:
    """Return the mean agreement of calls, each with the one of the other side that is most like it; others count 0."""
    if not calls or not references:
        return float(not calls and not references)
    few, many = sorted((calls, references), key=len)
    left, total = list(many), 0.0
    for call in few:
        agreements = [_agree(call, other) for other in left]
        total += max(agreements)
        del left[agreements.index(max(agreements))]
    return 2 * total / (len(calls) + len(references))


def _agree(call: Call, reference: Call) -> float:
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
