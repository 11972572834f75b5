"""Rewards from a user's file, and functions in TRL's manner."""

from __future__ import annotations

import asyncio
import math
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from swift_data.errors import InvalidArgument, MissingColumn
from swift_data.reward import InvalidRewards, RewardFailed, load_reward
from swift_data.reward_plugin import FunctionReward, InvalidPlugin

PLUGIN = '''
from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from swift_data.reward import Reward
from neighbour_of_the_plugin import TWO

CALLS = []


@dataclass(frozen=True)
class Share(Reward):
    """How much of a completion is one letter."""

    letter: str = "a"

    def score(self, completions, columns):
        return [text.count(self.letter) / len(text) for text in completions]


SHARE = Share("b")


def length(completions, **kwargs):
    return [float(len(text)) for text in completions]


def conversational(prompts, completions, **kwargs):
    """As in TRL's documentation: completions are lists of messages."""
    return [float(len(each[0]["content"])) + len(prompt) for prompt, each in zip(prompts, completions)]


async def slowly(completions, solution, **kwargs):
    async def one(text, right):
        await asyncio.sleep(0)
        return float(text == right)

    return await asyncio.gather(*(one(*each) for each in zip(completions, solution)))


def only_some(completions, task, **kwargs):
    """As in TRL's documentation: None for the rows of another task."""
    return [1.0 if each == "math" else None for each in task]


def narrow(completions, answer):
    return [TWO * (text == right) for text, right in zip(completions, answer)]


def looks_at_state(completions, trainer_state, log_extra=None, **kwargs):
    CALLS.append(sorted(kwargs))
    return [trainer_state["step"] for _ in completions]


def fails(completions, answer, **kwargs):
    return [{"yes": 1.0, "no": 0.0}[each] for each in answer]


def fails_on_many(completions, **kwargs):
    if len(completions) > 1:
        raise RuntimeError("out of memory")
    return [0.0]


def too_few(completions, **kwargs):
    return [0.0]


def words(completions, **kwargs):
    return ["good" for _ in completions]


def refuses(completions, **kwargs):
    raise ValueError("never")


class Callable:
    def __call__(self, completions, **kwargs):
        return [0.5 for _ in completions]


INSTANCE = Callable()
NUMBER = 7
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    path = tmp_path / "my_plugin.py"
    path.write_text(PLUGIN)
    (tmp_path / "neighbour_of_the_plugin.py").write_text("TWO = 2\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield str(path)
    sys.modules.pop("neighbour_of_the_plugin", None)


def test_a_function_is_called_as_trl_calls_it(plugin: str) -> None:
    assert load_reward(f"{plugin}:length")(["a", "bcd"], solution=["x", "y"]) == [1.0, 3.0]


def test_completions_and_prompts_pass_as_they_are(plugin: str) -> None:
    reward = load_reward(f"{plugin}:conversational")
    prompts = [[{"role": "user", "content": "Say a."}]]
    assert reward([[{"role": "assistant", "content": "abc"}]], prompts=prompts) == [3.0 + 1]


def test_texts_become_messages_for_a_function_that_wants_them_and_back(plugin: str) -> None:
    reward = load_reward(f"{plugin}:conversational", conversational=True)
    assert reward(["abc"], prompts=["Say a."]) == [3.0 + 1]
    messages = [[{"role": "assistant", "content": "abc"}]]
    assert load_reward(f"{plugin}:length", conversational=False)(messages) == [3.0]
    assert load_reward(f"{plugin}:length")(messages) == [1.0]


def test_an_async_function_is_awaited_inside_of_a_loop_too(plugin: str) -> None:
    reward = load_reward(f"{plugin}:slowly")
    assert reward(["a", "b"], solution=["a", "c"]) == [1.0, 0.0]

    async def score() -> list[float]:
        return reward(["a", "b"], solution=["a", "c"])

    assert asyncio.run(score()) == [1.0, 0.0]


def test_none_is_nan(plugin: str) -> None:
    one, other = load_reward(f"{plugin}:only_some")(["a", "b"], task=["math", "code"])
    assert one == 1.0 and math.isnan(other)


def test_a_function_without_keywords_gets_the_columns_that_it_names(plugin: str) -> None:
    assert load_reward(f"{plugin}:narrow")(["a", "b"], answer=["a", "c"], solution=["x", "y"]) == [2.0, 0.0]


def test_a_column_that_a_function_names_must_be_there(plugin: str) -> None:
    with pytest.raises(MissingColumn) as caught:
        load_reward(f"{plugin}:narrow")(["a"], solution=["x"])
    assert str(caught.value) == (
        f"the reward function '{plugin}:narrow' needs the column 'answer'; given are ['solution']: add it to the rows"
    )


def test_what_is_no_column_is_handed_over_as_it_is(plugin: str) -> None:
    reward = load_reward(f"{plugin}:looks_at_state")
    assert reward(["a", "b"], trainer_state={"step": 3}, solution=["x", "y"]) == [3.0, 3.0]


def test_a_callable_object_is_a_function_too(plugin: str) -> None:
    assert load_reward(f"{plugin}:INSTANCE")(["a"]) == [0.5]


def test_a_reward_of_a_plugin_takes_its_parameters(plugin: str) -> None:
    assert load_reward(f"{plugin}:Share")(["ab"]) == [0.5]
    assert load_reward(f"{plugin}:Share", letter="b")(["abb"]) == [pytest.approx(2 / 3)]
    assert load_reward(f"{plugin}:SHARE")(["bb"]) == [1.0]
    with pytest.raises(InvalidArgument, match="has no parameter 'size'; it has 'letter'"):
        load_reward(f"{plugin}:Share", size=3)


def test_a_file_is_run_once(plugin: str) -> None:
    load_reward(f"{plugin}:looks_at_state")(["a"], trainer_state={"step": 1}, extra=["e"])
    second = load_reward(f"{plugin}:looks_at_state")
    assert isinstance(second, FunctionReward)
    assert sys.modules[second.function.__module__].CALLS == [["extra"]]


def test_an_error_in_a_function_names_the_function_and_the_row(plugin: str) -> None:
    with pytest.raises(RewardFailed) as caught:
        load_reward(f"{plugin}:fails")(["first", "second", "third"], answer=["yes", "perhaps", "no"])
    assert str(caught.value) == (
        f"the reward function '{plugin}:fails' raised KeyError: 'perhaps'; at completion 2 of 3, 'second', "
        "with answer='perhaps'"
    )
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_error_that_no_row_raises_alone_names_the_columns(plugin: str) -> None:
    with pytest.raises(RewardFailed, match="out of memory; for 2 completions with the columns 'answer', for none of"):
        load_reward(f"{plugin}:fails_on_many")(["a", "b"], answer=["c", "d"])


def test_an_error_of_a_reward_class_names_the_row(plugin: str) -> None:
    with pytest.raises(RewardFailed, match=r"Share raised ZeroDivisionError: .*; at completion 2 of 2, '', with no"):
        load_reward(f"{plugin}:Share")(["a", ""])


def test_too_few_rewards_and_words_are_refused(plugin: str) -> None:
    with pytest.raises(InvalidRewards, match=r"the reward function '.*:too_few' returned 1 rewards for 2 completions"):
        load_reward(f"{plugin}:too_few")(["a", "b"])
    with pytest.raises(InvalidRewards, match=r"the reward function '.*:words' returned 'good' for completion 1"):
        load_reward(f"{plugin}:words")(["a", "b"])


def test_a_function_of_the_callers_own_is_a_reward_without_a_file() -> None:
    def shout(completions: list[str], **columns: object) -> list[float]:
        return [float(each.isupper()) for each in completions]

    assert FunctionReward(shout)(["A", "a"]) == [1.0, 0.0]
    with pytest.raises(RewardFailed, match="the reward function 'shout' raised AttributeError"):
        FunctionReward(shout)([[{"role": "assistant", "content": "A"}]])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "is not in its file"),
        ("NUMBER", "is of type int, which cannot be called"),
        ("asyncio", "is of type module, which cannot be called"),
        ("Path", "is a class that is no subclass of swift_data.reward.Reward"),
        ("Reward", "is a Reward that lacks 'score'"),
    ],
)
def test_a_name_that_is_no_reward_is_refused_with_those_that_are(plugin: str, name: str, words: str) -> None:
    Path(plugin).write_text(Path(plugin).read_text() + "\nfrom pathlib import Path\n")
    with pytest.raises(InvalidPlugin, match=rf"{words}; its file defines 'Share', 'length', .*: name a function or"):
        load_reward(f"{plugin}:{name}")


def test_a_file_without_a_name_is_refused_with_its_names(plugin: str) -> None:
    with pytest.raises(InvalidPlugin, match=r"such as '.*my_plugin\.py:Share'"):
        load_reward(plugin)


def test_a_missing_file_and_one_that_does_not_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPlugin, match="does not exist"):
        load_reward(f"{tmp_path}/none.py:f")
    broken = tmp_path / "broken.py"
    broken.write_text("def f(:\n")
    with pytest.raises(InvalidPlugin, match="cannot be run: SyntaxError"):
        load_reward(f"{broken}:f")
    broken.write_text("raise RuntimeError('no key')\n")
    with pytest.raises(InvalidPlugin, match="cannot be run: RuntimeError: no key"):
        load_reward(f"{broken}:f")
    broken.write_text("def f(completions, **kwargs):\n    return [1.0]\n")
    assert load_reward(f"{broken}:f")(["a"]) == [1.0]
