"""The laws that every reward obeys, as a check: run it over your own, as this package's tests run it over its own."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import InvalidArgument, MissingColumn, SwiftDataError
from .reward import Completion, Reward

# What models say when they are not asked well: a reward may find it bad, but must say so.
GARBAGE: Final = (
    "",
    " \n\t",
    "\\boxed{",
    "\\boxed{}",
    "\\frac{1}{0}",
    "$" * 300,
    "{" * 300,
    "(" * 300,
    "<think><think></answer><answer>",
    "Action:\nAction Input: [[[",
    'Action: f\nAction Input: {"a": NaN}',
    "#### ",
    "\x00\ud800\U0001f600",
    "__import__('os').getcwd()",
    "nan",
    "1e999999999",
)


def check_reward(reward: Reward) -> None:
    """Check a reward's laws, with the parameters that its examples are for.

    Its examples get the reward that they say, one by one and together, forwards and backwards, as texts and as
    messages; further columns do not matter; no completions get no rewards; a column that it needs must be there, and
    of the right length; garbage gets finite numbers or NaN; parameters have defaults.

    Raises:
        AssertionError: with the law that is broken.
    """
    examples = reward.examples
    assert examples, "a reward has at least one example"
    expected = [example.reward for example in examples]
    for example in examples:
        alone = reward([example.completion], **{name: [value] for name, value in example.columns.items()})
        assert _equal(alone, [example.reward]), f"{example!r} gets {alone!r}"
    completions = [example.completion for example in examples]
    names = dict.fromkeys(name for example in examples for name in example.columns)
    columns = {name: [example.columns.get(name) for example in examples] for name in names}
    before = copy.deepcopy((completions, columns))
    assert _equal(reward(completions, **columns), expected), "the examples together get other rewards than one by one"
    backwards = reward(completions[::-1], **{name: column[::-1] for name, column in columns.items()})
    assert _equal(backwards, expected[::-1]), "the order of the completions matters"
    messages = [[{"role": "assistant", "content": completion}] for completion in completions]
    assert _equal(reward(messages, **columns), expected), "messages get other rewards than their texts"
    assert _equal(reward(completions, unrelated=completions, **columns), expected), "an unrelated column matters"
    assert (completions, columns) == before, "a reward changes what it is given"
    assert reward([], **{name: [] for name in reward.needs}) == [], "no completions get rewards"
    for name in reward.needs:
        without = {key: value for key, value in columns.items() if key != name}
        _check_refused(reward, completions, without, MissingColumn)
        _check_refused(reward, completions, {**columns, name: columns[name][1:]}, InvalidArgument)
    _check_garbage(reward, columns)
    _check_defaults(reward)


def _check_garbage(reward: Reward, columns: Mapping[str, Sequence[object]]) -> None:
    for garbage in GARBAGE:
        rewards = reward([garbage] * len(reward.examples), **{name: list(column) for name, column in columns.items()})
        assert not any(map(math.isinf, rewards)), f"{garbage!r} gets {rewards!r}"
    texts = {name: list(GARBAGE) for name, column in columns.items() if all(_is_text(value) for value in column)}
    others = {name: [column[0]] * len(GARBAGE) for name, column in columns.items() if name not in texts}
    rewards = reward(GARBAGE, **texts, **others)
    assert not any(map(math.isinf, rewards)), f"garbage as columns gets {rewards!r}"


def _check_defaults(reward: object) -> None:
    if dataclasses.is_dataclass(reward):
        bare = [field.name for field in dataclasses.fields(reward) if _has_no_default(field)]
        assert not bare, f"the parameters {bare} have no default"


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _has_no_default(field: dataclasses.Field[object]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_refused(
    reward: Reward,
    completions: Sequence[Completion],
    columns: Mapping[str, Sequence[object]],
    error: type[SwiftDataError],
) -> None:
    try:
        rewards = reward(completions, **columns)
    except error:
        return
    raise AssertionError(f"columns {dict(columns)!r} give {rewards!r} instead of {error.__name__}")


def _equal(rewards: Sequence[float], expected: Sequence[float]) -> bool:
    return len(rewards) == len(expected) and all(
        isinstance(one, float) and (one == other or (math.isnan(one) and math.isnan(other)))
        for one, other in zip(rewards, expected, strict=True)
    )
