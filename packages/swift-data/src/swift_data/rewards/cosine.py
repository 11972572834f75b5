"""Cosine: accuracy scaled by length, so that a right answer is better short, and a wrong one less bad long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidArgument
from ..reward import Column, Reward, RewardExample
from ._token_lengths import token_lengths
from .accuracy import Accuracy


@dataclass(frozen=True, kw_only=True)
class Cosine(Reward):
    """A reward between two values, by the completion's length in tokens; NaN where accuracy has nothing to score by.

    CosFn(t, T, low, high) = low + (high - low) (1 + cos(pi t / T)) / 2, from `high` at t = 0 to `low` at t = T: with
    the values of an empty completion and of one of T = `cosine_max_len` tokens, for right answers and for wrong ones.

    Source: Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373, appendix C.1. Deviations: no
    penalty of its own for reaching T (see `soft_overlong`); a longer completion gets the value of T.
    """

    cosine_min_len_value_wrong: float = -0.5
    """Value of a wrong answer of no length."""
    cosine_max_len_value_wrong: float = 0.0
    """Value of a wrong answer of cosine_max_len tokens."""
    cosine_min_len_value_correct: float = 1.0
    """Value of a right answer of no length."""
    cosine_max_len_value_correct: float = 0.5
    """Value of a right answer of cosine_max_len tokens."""
    cosine_max_len: int = 512
    """Tokens at which the values of the longest completions are reached; set it to max_completion_length."""

    needs = ("solution",)
    examples = (
        RewardExample(completion="4", columns={"solution": "4", "completion_token_lengths": 0}, reward=1.0),
        RewardExample(completion="4", columns={"solution": "4", "completion_token_lengths": 256}, reward=0.75),
        RewardExample(completion="4", columns={"solution": "4", "completion_token_lengths": 600}, reward=0.5),
        RewardExample(completion="5", columns={"solution": "4", "completion_token_lengths": 0}, reward=-0.5),
        RewardExample(completion="5", columns={"solution": "4", "completion_token_lengths": 256}, reward=-0.25),
        RewardExample(completion="4", columns={"solution": None, "completion_token_lengths": 1}, reward=math.nan),
    )

    def __post_init__(self) -> None:
        if self.cosine_max_len < 1:
            raise InvalidArgument(f"cosine_max_len is {self.cosine_max_len!r}; expected a number of tokens from 1 on")
        # Found out before a run starts: without math-verify there is no accuracy.
        Accuracy()

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Score each completion by accuracy and length."""
        lengths = token_lengths("Cosine", completions, columns)
        right = Accuracy().score(completions, columns)
        return [self._scale(*each) for each in zip(right, lengths, strict=True)]

    def _scale(self, right: float, length: int | None) -> float:
        if math.isnan(right) or length is None:
            return math.nan
        if right:
            shortest, longest = self.cosine_min_len_value_correct, self.cosine_max_len_value_correct
        else:
            shortest, longest = self.cosine_min_len_value_wrong, self.cosine_max_len_value_wrong
        share = min(length / self.cosine_max_len, 1.0)
        return longest + (shortest - longest) * (1 + math.cos(math.pi * share)) / 2
