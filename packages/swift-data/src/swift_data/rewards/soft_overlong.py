"""Soft overlong: a penalty that grows over the last tokens before the longest completion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidArgument
from ..reward import Column, Reward, RewardExample
from ._token_lengths import token_lengths


@dataclass(frozen=True, kw_only=True)
class SoftOverlong(Reward):
    """0.0 for a completion that keeps its distance from the longest, down to -1.0 for one that reaches it.

    With L_max = soft_max_length and L_cache = soft_cache_length, a completion of |y| tokens gets

        0                               where |y| <= L_max - L_cache
        ((L_max - L_cache) - |y|) / L_cache   up to |y| = L_max
        -1                              beyond

    Source: DAPO, arXiv 2503.14476, equation 13.
    """

    soft_max_length: int = 512
    """Tokens of the longest completion, L_max; set it to max_completion_length."""
    soft_cache_length: int = 128
    """Tokens before it over which the penalty grows, L_cache."""

    examples = (
        RewardExample(completion="", columns={"completion_token_lengths": 384}, reward=0.0),
        RewardExample(completion="", columns={"completion_token_lengths": 448}, reward=-0.5),
        RewardExample(completion="", columns={"completion_token_lengths": 512}, reward=-1.0),
        RewardExample(completion="", columns={"completion_token_lengths": 513}, reward=-1.0),
        RewardExample(completion="", columns={"completion_token_lengths": None}, reward=math.nan),
    )

    def __post_init__(self) -> None:
        if not 0 < self.soft_cache_length <= self.soft_max_length:
            raise InvalidArgument(
                f"soft_cache_length is {self.soft_cache_length!r} and soft_max_length {self.soft_max_length!r}; "
                "expected a cache of at least 1 token that is not longer than the whole"
            )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Score each completion by its length."""
        return [self._score(length) for length in token_lengths("SoftOverlong", completions, columns)]

    def _score(self, length: int | None) -> float:
        if length is None:
            return math.nan
        over = length - (self.soft_max_length - self.soft_cache_length)
        return -min(over / self.soft_cache_length, 1.0) if over > 0 else 0.0
