"""Every registered reward obeys the laws, and the check finds those that do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from swift_data.errors import SwiftDataError
from swift_data.reward import REWARDS, Column, Reward, load_reward
from swift_data.reward_check import check_reward
from swift_data.rewards.contains import Contains
from swift_data.rewards.format import Format
from swift_data.rewards.repetition import Repetition


@pytest.mark.parametrize("name", REWARDS.names())
def test_a_registered_reward_obeys_the_laws(name: str) -> None:
    check_reward(load_reward(name))


def test_the_rewards_that_users_know_are_there() -> None:
    known = ["accuracy", "contains", "cosine", "format", "length", "react_format", "repetition", "soft_overlong"]
    assert set(known) | {"toolbench"} <= set(REWARDS.names())


class TextsOnly(Format):
    """Does not take messages."""

    def __call__(self, completions: Sequence[object], **columns: object) -> list[float]:
        """Turn whatever comes into text."""
        return super().__call__([str(completion) for completion in completions], **columns)


class Explodes(Repetition):
    """Cannot bear a brace."""

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Refuse what looks odd."""
        if any("{{" in completion for completion in completions):
            raise ValueError("braces")
        return super().score(completions, columns)


@dataclass(frozen=True)
class NoDefault(Contains):
    """Cannot be made by its name alone."""

    size: int


class FirstDecides(Contains):
    """Scores all completions as the first."""

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Repeat the first reward."""
        return super().score(completions, columns)[:1] * len(completions)


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        pytest.param(TextsOnly(), AssertionError, "messages get other rewards", id="no messages"),
        pytest.param(Explodes(), SwiftDataError, "ValueError: braces; at completion 1", id="raises on garbage"),
        pytest.param(NoDefault(3), AssertionError, r"\['size'\] have no default", id="no default"),
        pytest.param(FirstDecides(), AssertionError, "the examples together get other rewards", id="first decides"),
    ],
)
def test_a_broken_reward_is_found(reward: Reward, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_reward(reward)


def test_repetition_never_gives_a_negative_zero() -> None:
    (penalty,) = load_reward("repetition")(["a b c d"])
    assert math.copysign(1.0, penalty) == 1.0
