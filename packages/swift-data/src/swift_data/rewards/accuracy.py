r"""Accuracy: is the completion's final answer that of the row's `solution`?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidArgument
from ..reward import Column, Reward, RewardExample
from ._answers import (
    MAX_CHARACTERS,
    clean,
    find_answer,
    is_nested_deeply,
    to_choice,
    to_number,
    to_words,
    without_words,
)
from ._formulas import are_equal, check_installed


@dataclass(frozen=True, kw_only=True)
class Accuracy(Reward):
    r"""1.0 where the final answer is right, else 0.0; NaN where the row has no solution.

    The answer is what stands in `<answer>` tags, in `\boxed{}`, behind '####' or behind 'the answer is', after the
    thinking; or the whole completion where that is one line. The solution is read in the same way. Numbers and
    fractions are compared exactly, the letters of multiple choices as letters, words without upper and lower case, and
    all else as formulas by math-verify (the extra 'math'): sets, intervals, equations, roots.
    """

    timeout_s: float = 5.0
    """Seconds that comparing one answer may take; a longer one counts as wrong."""

    needs = ("solution",)
    examples = (
        RewardExample(completion=r"So it is \boxed{\frac{1}{2}}.", columns={"solution": "0.5"}, reward=1.0),
        RewardExample(completion="Six eggs each.\n#### 1,042", columns={"solution": "1042"}, reward=1.0),
        RewardExample(completion="<think>4?</think><answer>5</answer>", columns={"solution": "4"}, reward=0.0),
        RewardExample(completion="The answer is (B).", columns={"solution": "B"}, reward=1.0),
        RewardExample(completion=r"\boxed{\{2, 1\}}", columns={"solution": r"$\{1, 2\}$"}, reward=1.0),
        RewardExample(completion="I see 4 of them,\nor so.", columns={"solution": "4"}, reward=0.0),
        RewardExample(completion="Anything.", columns={"solution": None}, reward=math.nan),
    )

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise InvalidArgument(f"timeout_s is {self.timeout_s!r}; expected seconds, more than 0")
        check_installed("accuracy")

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Compare each answer with its solution."""
        return [
            self._compare(completion, solution)
            for completion, solution in zip(completions, columns["solution"], strict=True)
        ]

    def _compare(self, completion: str, solution: object) -> float:
        # A solution of a JSON row may be a number.
        text = "" if solution is None else str(solution)
        gold = find_answer(text) or clean(text)
        if not gold:
            return math.nan
        answer = find_answer(completion)
        return 0.0 if answer is None else float(self._is_right(answer, gold))

    def _is_right(self, answer: str, gold: str) -> bool:
        if to_words(answer) == to_words(gold):
            return True
        if (letter := to_choice(gold)) is not None:
            # 'B. Paris' is the choice B, whatever the solution says beside its letter.
            return to_choice(answer.upper() if len(answer) == 1 else answer) == letter
        number, expected = to_number(answer), to_number(gold)
        # Words, such as a unit, may stand on one side; those on both are left to math-verify.
        if number is None and expected is not None:
            number = to_number(without_words(answer))
        elif expected is None and number is not None:
            expected = to_number(without_words(gold))
        if number is not None and expected is not None:
            if number == expected:
                return True
            if number.denominator == expected.denominator == 1:
                return False
        if len(gold) > MAX_CHARACTERS or is_nested_deeply(gold) or is_nested_deeply(answer):
            return False
        return are_equal(_as_latex(gold), _as_latex(answer), timeout_s=self.timeout_s)


def _as_latex(answer: str) -> str:
    # Braces are invisible in LaTeX, and yet people write sets with them.
    return rf"\{{{answer[1:-1]}\}}" if answer.startswith("{") and answer.endswith("}") else answer
