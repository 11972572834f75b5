"""The words that trainers, engines and servers share, and nothing that computes.

Rollouts in training and requests in serving ask the same `Generator` with the same `Prompt` and `SamplingParams`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a model continues: token ids, and the media arrays that go with them."""

    input_ids: list[int]
    media: dict[str, np.ndarray] = field(default_factory=dict)
    adapter: str | None = None
    """Name of the adapter that answers; None is the model as loaded."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen."""

    max_new_tokens: int = 512
    """Most tokens of an answer."""
    temperature: float = 0.0
    """0 takes the likeliest token; higher is more varied."""
    top_k: int = 0
    """Choose among this many likeliest tokens; 0 is all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that make up this probability."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that stand already become less likely."""
    stop_words: list[str] = field(default_factory=list)
    """Texts that end an answer."""
    seed: int | None = None
    """Seed of the choice."""
    num_return_sequences: int = 1
    """Answers per prompt."""


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer: its token ids, without the token that ended it."""

    token_ids: list[int]
    finish_reason: FinishReason


@runtime_checkable
class Generator(Protocol):
    """Anything that continues prompts."""

    def generate(self, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[list[Completion]]:
        """Return `num_return_sequences` completions for each prompt, in the order of the prompts."""
        ...

    def stream(self, prompt: Prompt, sampling: SamplingParams) -> Iterator[int]:
        """Yield one completion's token ids as they are chosen."""
        ...


@runtime_checkable
class WeightReceiver(Protocol):
    """A generator whose weights can be replaced while it runs."""

    def receive_weights(self, weights: Iterable[tuple[str, object]], *, version: int) -> None:
        """Take named tensors; completions made afterwards carry this version."""
        ...
