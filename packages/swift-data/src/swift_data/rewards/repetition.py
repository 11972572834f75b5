"""Repetition: a penalty for saying the same words again and again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..errors import InvalidArgument
from ..reward import Column, Reward, RewardExample

# Chinese and Japanese have no spaces between words: each of their characters stands for one.
_IDEOGRAPHS: Final = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")


@dataclass(frozen=True, kw_only=True)
class Repetition(Reward):
    """0.0 for a completion that repeats nothing, down to `repetition_max_penalty`.

    penalty = (1 - distinct n-grams / n-grams) * repetition_max_penalty, over words in lower case; 0.0 for a completion
    of less than n words.

    Source: the n-gram penalty of ms-swift and Open-R1, after Demystifying Long Chain-of-Thought Reasoning in LLMs
    (arXiv 2502.03373), whose own is given to each token. Deviation: a Chinese or Japanese character is a word.
    """

    repetition_n_grams: int = 3
    """Words in a row that count as repeated."""
    repetition_max_penalty: float = -1.0
    """What a completion gets that does nothing but repeat itself; not above 0."""

    examples = (
        RewardExample(completion="one two three four", columns={}, reward=0.0),
        # 'no no no' three times: 1 of 3 n-grams is new, and in the other case 3 of 4.
        RewardExample(completion="No no no no no", columns={}, reward=-(1 - 1 / 3)),
        RewardExample(completion="a b c a b c", columns={}, reward=-0.25),
        RewardExample(completion="no no", columns={}, reward=0.0),
    )

    def __post_init__(self) -> None:
        if self.repetition_n_grams < 1:
            raise InvalidArgument(f"repetition_n_grams is {self.repetition_n_grams!r}; expected 1 or more words")
        if not -math.inf < self.repetition_max_penalty <= 0:
            raise InvalidArgument(
                f"repetition_max_penalty is {self.repetition_max_penalty!r}; expected a penalty, a number of at most 0"
            )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Count each completion's n-grams."""
        return [self._score(completion) for completion in completions]

    def _score(self, completion: str) -> float:
        words = _WORD.findall(completion.lower())
        grams = list(zip(*(islice(words, start, None) for start in range(self.repetition_n_grams)), strict=False))
        repeated = 1 - len(set(grams)) / len(grams) if grams else 0.0
        # Not -0.0, which looks like a penalty.
        return repeated * self.repetition_max_penalty if repeated else 0.0
