"""The `contains` reward, and how rewards are called."""

from __future__ import annotations

import math

import pytest
from swift_data.errors import InvalidArgument, MissingColumn
from swift_data.reward import load_reward


@pytest.mark.parametrize(
    ("completion", "solution", "reward"),
    [
        ("The cap is forty guests a day.", "forty", 1.0),
        ("Forty.", "forty", 1.0),
        ("There are fortytwo.", "forty", 0.0),
        ("A biforty.", "forty", 0.0),
        ("214", "214", 1.0),
        ("It has 2140 stairs.", "214", 0.0),
        ("It has 1214 stairs.", "214", 0.0),
        ("The\n  old   MILL", "Old Mill", 1.0),
        ("oldmill", "old mill", 0.0),
        ("It costs $5.", "$5", 1.0),
        ("It costs US$5.", "$5", 1.0),
        ("It costs $50.", "$5", 0.0),
        ("a.b", "a.b", 1.0),
        ("axb", "a.b", 0.0),
        ("In der Straße.", "STRASSE", 1.0),
        ("Größenwahn", "größe", 0.0),
        ("", "forty", 0.0),
        ("(forty)", "forty", 1.0),
    ],
)
def test_contains_looks_for_whole_words(completion: str, solution: str, reward: float) -> None:
    assert load_reward("contains")([completion], solution=[solution]) == [reward]


@pytest.mark.parametrize("solution", [None, "", "  "])
def test_contains_does_not_score_without_a_solution(solution: str | None) -> None:
    (reward,) = load_reward("contains")(["anything"], solution=[solution])
    assert math.isnan(reward)


def test_a_reward_without_its_column_says_what_is_missing() -> None:
    with pytest.raises(MissingColumn) as caught:
        load_reward("contains")(["a"], answer=["a"])
    assert str(caught.value) == "Contains needs the column 'solution'; given are ['answer']: add it to the rows"


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1 values for 2 completions"):
        load_reward("contains")(["a", "b"], solution=["a"])
