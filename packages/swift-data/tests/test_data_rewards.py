"""Registered rewards that need nothing but text and lengths, and how rewards are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from swift_data.errors import InvalidArgument, MissingColumn
from swift_data.reward import (
    Column,
    InvalidRewards,
    Reward,
    RewardFailed,
    load_reward,
    to_rewards,
    to_text,
)


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


def test_a_solution_that_is_a_number_is_text_too() -> None:
    assert load_reward("contains")(["There are 7."], solution=[7]) == [1.0]


class Divides(Reward):
    """Fails where a row has 0 as its divisor."""

    needs = ("divisor",)

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Divide by each row's number."""
        return [1 / int(str(divisor)) for divisor in columns["divisor"]]


class Forgets(Reward):
    """Leaves the last completion out."""

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Score all but one."""
        return [1.0 for _ in completions[1:]]


def test_an_error_while_scoring_names_the_row() -> None:
    with pytest.raises(RewardFailed) as caught:
        Divides()(["a", "b", "c"], divisor=[1, 0, 2], other=["x", "y", "z"])
    assert str(caught.value) == (
        "Divides raised ZeroDivisionError: division by zero; at completion 2 of 3, 'b', with divisor=0, other='y'"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_reward_too_few_is_refused() -> None:
    with pytest.raises(InvalidRewards) as caught:
        Forgets()(["a", "b"])
    assert str(caught.value) == (
        "Forgets returned 1 rewards for 2 completions; expected a list of 2 numbers, one for each completion"
    )


class ReadsMore(Reward):
    """Reads a column that it does not say to need."""

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Read it."""
        return [float(bool(value)) for value in columns["judgement"]]


def test_a_column_that_a_reward_reads_must_be_there() -> None:
    with pytest.raises(MissingColumn) as caught:
        ReadsMore()(["a"], solution=["a"])
    assert str(caught.value) == "ReadsMore needs the column 'judgement'; given are ['solution']: add it to the rows"


def test_rewards_become_floats_and_none_becomes_nan() -> None:
    numbers = to_rewards("f", [1, True, None, math.nan, np.float32(0.5)], 5)
    assert numbers[:2] == [1.0, 1.0] and math.isnan(numbers[2]) and math.isnan(numbers[3]) and numbers[4] == 0.5
    assert {type(number) for number in numbers} == {float}
    assert to_rewards("f", np.array([0.25, 1]), 2) == [0.25, 1.0]


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        pytest.param(0.5, "f returned 0.5; expected a list of 2 numbers", id="one number for all"),
        pytest.param("12", "f returned '12'; expected a list", id="text"),
        pytest.param(None, "f returned None; expected a list", id="nothing"),
        pytest.param({"a": 1, "b": 2}, "expected a list", id="mapping"),
        pytest.param([1.0, "0.5"], "f returned '0.5' for completion 2; expected a finite number", id="text in it"),
        pytest.param([math.inf, 0], "f returned inf for completion 1", id="infinite"),
        pytest.param([np.array([1.0, 2.0]), 2.0], r"f returned \[1.0, 2.0\] for completion 1", id="an array in it"),
        pytest.param([[1.0], [2.0]], r"f returned \[1.0\] for completion 1", id="nested"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(rewards: object, message: str) -> None:
    with pytest.raises(InvalidRewards, match=message):
        to_rewards("f", rewards, 2)


def test_of_messages_the_text_of_the_assistant_is_scored() -> None:
    messages: list[dict[str, object]] = [
        {"role": "assistant", "content": "Let me look."},
        {"role": "tool", "content": "17"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 5."}, {"type": "image"}]},
    ]
    assert to_text(messages) == "Let me look.\nIt is 5."
    assert load_reward("contains")([messages, messages], solution=["5", "17"]) == [1.0, 0.0]


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_reward("soft_overlong", soft_max_len=512)
    assert str(caught.value) == (
        "the reward 'soft_overlong' has no parameter 'soft_max_len'; it has 'soft_max_length', 'soft_cache_length'"
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("soft_overlong", {"soft_max_length": 100, "soft_cache_length": 101}),
        ("soft_overlong", {"soft_cache_length": 0}),
        ("length", {"length_min": 9, "length_max": 8}),
        ("repetition", {"repetition_n_grams": 0}),
        ("repetition", {"repetition_max_penalty": 1.0}),
        ("repetition", {"repetition_max_penalty": math.nan}),
        ("cosine", {"cosine_max_len": 0}),
        ("accuracy", {"timeout_s": 0.0}),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="expected"):
        load_reward(name, **options)


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<think></think><answer>4</answer>", 1.0),
        ("\n<think>a\nb</think>\n\n<answer>4\n</answer>\n", 1.0),
        ("<answer>4</answer><think>a</think>", 0.0),
        ("<think>a<answer>b</think>c</answer>", 0.0),
        ("<think>a</think><think>b</think><answer>4</answer>", 0.0),
        ("<think>a</think> so <answer>4</answer>", 0.0),
        ("<think>a</think><answer>4", 0.0),
        ("a</think><answer>4</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_format_wants_both_parts_and_nothing_else(completion: str, reward: float) -> None:
    assert load_reward("format")([completion]) == [reward]


def test_format_knows_that_the_prompt_began_the_thinking() -> None:
    reward = load_reward("format", think_in_prompt=True)
    completions = ["2 + 2</think><answer>4</answer>", "<think>2 + 2</think><answer>4</answer>"]
    assert reward(completions) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ('Thought: a\nAction: f\nAction Input: {"a": [1, {"b": 2}]}', 1.0),
        ('<think>\nAction: no\n</think>\n\nAction: f\nAction Input:\n{\n"a": 1\n}\nObservation:', 1.0),
        ("<think>a</think>Thought: b\nFinal Answer: c\nd", 1.0),
        ("Thought: a\nFinal Answer:", 0.0),
        ("Thought:\nFinal Answer: 4", 0.0),
        ("Final Answer: 4", 0.0),
        ("Well.\nThought: a\nFinal Answer: 4", 0.0),
        ("Thought: a\nAction: f\nAction Input: {'a': 1}", 0.0),
        ("Thought: a\nAction: f\nAction Input: [1]", 0.0),
        ('Thought: a\nAction: f\nAction Input: {"a": NaN}', 0.0),
        ("Thought: a\nAction: f\nAction Input: {} and more", 0.0),
        ("Thought: a\nAction:\nAction Input: {}", 0.0),
        ("Thought: a\nAction: f\nAction Input: {}\nThought: b\nFinal Answer: c", 0.0),
        ("Thought: a\nAction Input: {}\nAction: f", 0.0),
        ("<think>a\nAction: f\nAction Input: {}", 0.0),
        ("Thought: a\nAction: f\nAction Input: " + "[" * 100_000, 0.0),
    ],
)
def test_react_format_wants_a_thought_and_one_step(completion: str, reward: float) -> None:
    assert load_reward("react_format")([completion]) == [reward]


def _call(arguments: str, action: str = "f") -> str:
    return f"Thought: a\nAction: {action}\nAction Input: {arguments}"


@pytest.mark.parametrize(
    ("completion", "solution", "f1"),
    [
        # F1 = 2 found / (given + wanted), where a right name with another value is half found.
        pytest.param(_call('{"a": 1, "b": "x"}'), _call('{"b": "x", "a": 1.0}'), 1.0, id="in another order"),
        pytest.param(_call('{"a": 1, "b": "y"}'), _call('{"a": 1, "b": "x"}'), 2 * 1.5 / 4, id="another value"),
        pytest.param(_call('{"a": 1}'), _call('{"a": 1, "b": "x"}'), 2 * 1 / 3, id="one missing"),
        pytest.param(_call('{"a": 1, "b": 2, "c": 3}'), _call('{"a": 1}'), 2 * 1 / 4, id="two too many"),
        pytest.param(_call('{"a": true}'), _call('{"a": 1}'), 2 * 0.5 / 2, id="true is not 1"),
        pytest.param(_call("{}"), _call("{}"), 1.0, id="no arguments"),
        pytest.param(_call("{}"), "Action: f", 1.0, id="no line of arguments"),
        pytest.param(_call('{"a": 1}'), _call("{}"), 0.0, id="unasked"),
        pytest.param(_call('{"a": 1}', "g"), _call('{"a": 1}'), 0.0, id="another tool"),
        pytest.param(_call("two  words"), _call("two words"), 1.0, id="text"),
        pytest.param(_call("two"), _call('{"a": 1}'), 0.0, id="text for JSON"),
        pytest.param("Final Answer: 4", _call('{"a": 1}'), 0.0, id="no call"),
        pytest.param(_call('{"a": 1}'), "Final Answer: 4", 0.0, id="a call that is not wanted"),
        pytest.param(
            _call("{}", "g") + "\nObservation: no\n" + _call('{"a": 1}') + "\nObservation:",
            _call('{"a": 1}'),
            1.0,
            id="the last call",
        ),
    ],
)
def test_toolbench_measures_the_arguments_of_the_right_tool(completion: str, solution: str, f1: float) -> None:
    assert load_reward("toolbench", partial=True)([completion], solution=[solution]) == [pytest.approx(f1)]
    assert load_reward("toolbench")([completion], solution=[solution]) == [float(f1 == 1.0)]


@pytest.mark.parametrize(
    ("length", "reward"),
    # DAPO's equation 13 with L_max = 20480 and L_cache = 4096, the paper's own numbers.
    [(0, 0.0), (16384, 0.0), (16385, -1 / 4096), (18432, -0.5), (20480, -1.0), (20481, -1.0), (99999, -1.0)],
)
def test_soft_overlong_is_equation_13(length: int, reward: float) -> None:
    overlong = load_reward("soft_overlong", soft_max_length=20480, soft_cache_length=4096)
    assert overlong(["a"], completion_token_lengths=[length]) == [reward]


def test_length_falls_outside_of_its_bounds() -> None:
    reward = load_reward("length", length_min=10, length_max=20)
    # 4 / 10, then 2 - 25 / 20.
    lengths = [0, 4, 10, 20, 25, 40, 41]
    assert reward([""] * 7, completion_token_lengths=lengths) == [0.0, 0.4, 1.0, 1.0, 0.75, 0.0, 0.0]


@pytest.mark.parametrize("name", ["token_ids", "completion_ids", "response_token_ids"])
def test_lengths_are_counted_where_token_ids_are_given(name: str) -> None:
    reward = load_reward("length", length_min=4, length_max=4)
    # 1, 2, and two turns with 3 tokens.
    columns: dict[str, object] = {name: [[7], np.array([7, 8]), [[7, 8], [9]], None]}
    scored = reward(["a"] * 4, **columns)
    assert scored[:3] == [0.25, 0.5, 0.75] and math.isnan(scored[3])


def test_lengths_may_be_an_array() -> None:
    reward = load_reward("length", length_min=4, length_max=4)
    assert reward(["a", "b"], completion_token_lengths=np.array([2, 4])) == [0.5, 1.0]


def test_without_lengths_the_possible_columns_are_named() -> None:
    with pytest.raises(MissingColumn, match="SoftOverlong needs the completions' lengths in tokens: the column"):
        load_reward("soft_overlong")(["a"], solution=["b"])


@pytest.mark.parametrize("value", ["3", -1, 2.5, True])
def test_a_length_is_a_number_of_tokens(value: object) -> None:
    with pytest.raises(InvalidArgument, match="expected a number of tokens"):
        load_reward("length")(["a"], completion_token_lengths=[value])


@pytest.mark.parametrize(
    ("completion", "penalty"),
    [
        # By hand: (1 - distinct / all) * -1 over three words each.
        ("", 0.0),
        ("a b", 0.0),
        ("a b c", 0.0),
        ("a a a a", -0.5),
        ("A b C a B c a b c", -(1 - 3 / 7)),
        ("好的好的好的", -(1 - 2 / 4)),
        ("我们来看这个问题", 0.0),
    ],
)
def test_repetition_counts_n_grams(completion: str, penalty: float) -> None:
    assert load_reward("repetition")([completion]) == [pytest.approx(penalty)]


def test_repetition_takes_its_size_and_its_penalty() -> None:
    reward = load_reward("repetition", repetition_n_grams=1, repetition_max_penalty=-2.0)
    assert reward(["a a a a"]) == [-2 * 0.75]


def _hermes(*calls: tuple[str, str]) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>' for name, arguments in calls
    )


_ONE = '[{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]'


@pytest.mark.parametrize(
    ("completion", "solution", "f1"),
    [
        pytest.param("I cannot help.", _hermes(("f", '{"a": 1}')), 0.0, id="no call"),
        pytest.param(_hermes(("f", '{"a": 1}')), _hermes(("f", '{"a": 1}')), 1.0, id="hermes"),
        pytest.param(_hermes(("f", '{"a": 2}')), _hermes(("f", '{"a": 1}')), 2 * 0.5 / 2, id="another value"),
        pytest.param(_hermes(("f", '{"a": 1}')), _ONE, 1.0, id="OpenAI's JSON"),
        pytest.param(_call('{"a": 1}'), _ONE, 1.0, id="lines for JSON"),
        pytest.param("[TOOL_CALLS][" + '{"name": "f", "arguments": {"a": 1}}]', _ONE, 1.0, id="mistral"),
        pytest.param(
            _hermes(("g", "{}"), ("f", '{"a": 1}')), _hermes(("f", '{"a": 1}'), ("g", "{}")), 1.0, id="in another order"
        ),
        # One of two is right: 2 * 1 / (1 + 2).
        pytest.param(_hermes(("g", "{}")), _hermes(("f", '{"a": 1}'), ("g", "{}")), 2 / 3, id="one missing"),
        pytest.param("42", "The answer is 42.", math.nan, id="a reference that calls nothing and ends nothing"),
        pytest.param("42", '{"answer": 42}', math.nan, id="JSON of no call"),
    ],
)
def test_toolbench_reads_calls_in_any_dialect(completion: str, solution: str, f1: float) -> None:
    [found] = load_reward("toolbench", partial=True)([completion], solution=[solution])
    assert found == pytest.approx(f1, nan_ok=True)
