"""Length: is the completion neither too short nor too long?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import InvalidArgument
from ..reward import Column, Reward, RewardExample
from ._token_lengths import token_lengths


@dataclass(frozen=True, kw_only=True)
class Length(Reward):
    """1.0 where a completion has from `length_min` to `length_max` tokens.

    Below, it falls in proportion, |y| / length_min; above, in the same manner to 0.0 at twice the longest,
    2 - |y| / length_max.
    """

    length_min: int = 0
    """Tokens of the shortest completion that is long enough."""
    length_max: int = 512
    """Tokens of the longest completion that is short enough."""

    examples = (
        RewardExample(completion="", columns={"completion_token_lengths": 0}, reward=1.0),
        RewardExample(completion="", columns={"completion_token_lengths": 512}, reward=1.0),
        RewardExample(completion="", columns={"completion_token_lengths": 768}, reward=0.5),
        RewardExample(completion="", columns={"completion_token_lengths": 2048}, reward=0.0),
        RewardExample(completion="", columns={"completion_token_lengths": None}, reward=math.nan),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.length_min <= self.length_max or self.length_max < 1:
            raise InvalidArgument(
                f"length_min is {self.length_min!r} and length_max {self.length_max!r}; expected numbers of tokens, "
                "the second at least 1 and not below the first"
            )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Score each completion by its length."""
        return [self._score(length) for length in token_lengths("Length", completions, columns)]

    def _score(self, length: int | None) -> float:
        if length is None:
            return math.nan
        if length < self.length_min:
            return length / self.length_min
        return max(0.0, min(1.0, 2 - length / self.length_max))
