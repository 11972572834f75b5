"""Rewards: how good are completions, as one number each, for RL, sampling and evaluation.

A reward is called as TRL calls its reward functions, `reward(completions, solution=[...], ...)`: the rows' columns are
lists by name, one value for each completion. Whatever scores, a registered reward or a user's own function, answers
with finite floats, or with NaN where there is nothing to score by.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from swift_templates.errors import SwiftTemplatesError
from swift_templates.registry import Registry

from .errors import InvalidArgument, MissingColumn, SwiftDataError
from .fields import quote, shorten

Column: TypeAlias = Sequence[object]
"""A column's value for each completion; None where the row has none."""

Completion: TypeAlias = str | Sequence[Mapping[str, object]]
"""A text, or TRL's conversational form: a list of messages such as {"role": "assistant", "content": "4"}."""

Scorer: TypeAlias = Callable[[Sequence[Any], Mapping[str, Column]], object]
"""Scores completions, texts or messages as it wants them, by their columns; what it returns is still to be checked."""


class RewardFailed(SwiftDataError, RuntimeError):
    """A reward raised an error while it scored."""


class InvalidRewards(SwiftDataError, ValueError):
    """A reward gave something else than one finite number, None or NaN for each completion."""


@dataclass(frozen=True, kw_only=True)
class RewardExample:
    """One completion, its row's columns, and the reward it must get."""

    completion: str
    columns: Mapping[str, object]
    reward: float


class Reward(ABC):
    """Scores completions.

    A reward with parameters is a dataclass with a default and a docstring for each field: options are made from them.

    Attributes:
        needs: columns that a caller must give; others are ignored unless a reward reads them.
        examples: they document the reward, and tests run on them; for the default parameters.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    examples: ClassVar[tuple[RewardExample, ...]]

    @property
    def label(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def __call__(self, completions: Sequence[Completion], **columns: object) -> list[float]:
        """Return one number for each completion; NaN where there is nothing to score it by.

        Args:
            completions: what the model answered; of messages, the texts are scored.
            columns: the rows' columns, each as long as `completions`.

        Raises:
            MissingColumn: a column of `needs` is not given.
            InvalidArgument: such a column has another length.
            RewardFailed: `score` raised an error of its own.
            InvalidRewards: `score` returned something else than a number for each completion.
        """
        columns = {name: to_list(column) for name, column in columns.items()}
        for name in self.needs:
            if name not in columns:
                raise missing_column(self.label, name, columns)
            check_column(name, columns[name], len(completions))
        # What is no list, such as a trainer's state, is no column.
        lists = _Columns({name: column for name, column in columns.items() if isinstance(column, list | tuple)})
        lists.label = self.label
        return run_scorer(self.label, self.score, [to_text(each) for each in completions], lists)

    @abstractmethod
    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Do what `__call__` says; the columns of `needs` are there and as long as `completions`."""


# The registry checks against its base and never makes one, so the base may be abstract.
REWARDS = Registry(kind="reward", package="swift_data.rewards", base=Reward)


def load_reward(name: str, **options: object) -> Reward:
    """Return a new instance of a registered reward, or of one in a Python file of the user's own.

    Args:
        name: a registered name, such as 'accuracy'; or a file and what it defines, such as 'plugin.py:my_reward': a
            subclass of Reward, or a function that TRL could call. The file is run, as if it were imported.
        options: the reward's parameters, such as cosine_max_len=2048.

    Raises:
        UnknownName: none is registered under this name (swift_templates.errors).
        MissingDependency: it needs a package that is not installed (swift_templates.errors).
        InvalidArgument: it has no such parameter, or a parameter is out of its range.
        InvalidPlugin: the file cannot be read or run, or defines no such reward (swift_data.reward_plugin).
    """
    from .reward_plugin import is_plugin, load_plugin

    if is_plugin(name):
        return load_plugin(name, options)
    return make_reward(REWARDS.load_class(name), name, options)


def make_reward(reward: type[Reward], name: str, options: Mapping[str, object]) -> Reward:
    """Construct a reward with its options; `name` is what the user calls it.

    Raises:
        InvalidArgument: it has no such parameter.
    """
    known = list(inspect.signature(reward).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InvalidArgument(f"the reward {name!r} has no parameter {quote(unknown)}; it has {quote(known)}")
    return reward(**options)


def missing_column(label: str, name: str, columns: Mapping[str, object]) -> MissingColumn:
    """Make the error of a reward that lacks a column."""
    return MissingColumn(f"{label} needs the column {name!r}; given are {sorted(columns)}: add it to the rows")


def check_column(name: str, column: object, count: int) -> None:
    """Check that a column has a value for each completion.

    Raises:
        InvalidArgument: it is no list, or has another length.
    """
    if not isinstance(column, list | tuple):
        raise InvalidArgument(f"the column {name!r} is {shorten(column)}; expected a list, a value for each completion")
    if len(column) != count:
        raise InvalidArgument(
            f"the column {name!r} has {len(column)} values for {count} completions; expected equally many"
        )


def to_list(values: object) -> object:
    """Turn an array or a tensor into a list, one without dimensions into a number; leave anything else as it is."""
    return values.tolist() if hasattr(values, "tolist") else values


def to_text(completion: Completion) -> str:
    """Return a completion's text: of messages, what the assistant says in them, a line break between."""
    if isinstance(completion, str):
        return completion
    # A message without a role, or with nothing but calls, is an assistant's too.
    said = [each.get("content") for each in completion if each.get("role", "assistant") == "assistant"]
    return "\n".join(text for content in said for text in _texts(content))


def run_scorer(
    label: str,
    scorer: Scorer,
    completions: Sequence[Completion],
    columns: Mapping[str, Column],
) -> list[float]:
    """Let a reward score, and check what it says; arguments and errors as of `Reward.__call__`."""
    try:
        rewards = scorer(completions, columns)
    except (SwiftDataError, SwiftTemplatesError):
        raise
    except Exception as error:
        raise RewardFailed(describe_failure(label, error, scorer, completions, columns)) from error
    return to_rewards(label, rewards, len(completions))


def to_rewards(label: str, rewards: object, count: int) -> list[float]:
    """Turn what a reward returned into floats: None, which TRL has where a reward does not apply, becomes NaN.

    Raises:
        InvalidRewards: there are not `count` values, or one is no number, or is infinite.
    """
    listed = to_list(rewards)
    expected = f"expected a list of {count} numbers, one for each completion"
    if not isinstance(listed, list | tuple):
        raise InvalidRewards(f"{label} returned {shorten(rewards)}; {expected}")
    if len(listed) != count:
        raise InvalidRewards(f"{label} returned {len(listed)} rewards for {count} completions; {expected}")
    return [_to_reward(label, value, index) for index, value in enumerate(listed)]


def describe_failure(
    label: str,
    error: Exception,
    scorer: Scorer,
    completions: Sequence[Completion],
    columns: Mapping[str, Column],
) -> str:
    """Say which error a reward raised, and for which row: the first that raises it alone as well.

    The run ends here, so that scoring a few rows once more costs nothing that matters.
    """
    raised = f"{label} raised {type(error).__name__}: {error}"
    rows = {name: column for name, column in columns.items() if len(column) == len(completions)}
    for index, completion in enumerate(completions):
        row = {name: column[index] for name, column in rows.items()}
        if len(completions) == 1 or _fails(scorer, completion, row, type(error)):
            shown = ", ".join(f"{name}={shorten(value)}" for name, value in row.items()) or "no columns"
            return f"{raised}; at completion {index + 1} of {len(completions)}, {shorten(completion)}, with {shown}"
    return f"{raised}; for {len(completions)} completions with the columns {quote(columns)}, for none of them alone"


def _texts(content: object) -> list[str]:
    if isinstance(content, list | tuple):
        # OpenAI's form: parts, of which some are texts.
        return [text for part in content if isinstance(part, Mapping) and isinstance(text := part.get("text"), str)]
    return [content] if isinstance(content, str) else []


class _Columns(dict[str, Column]):
    """Columns by name; reading one that is not there says so in the reward's words."""

    label: str

    def __missing__(self, name: str) -> Column:
        raise missing_column(self.label, name, self)


def _fails(
    scorer: Scorer,
    completion: Completion,
    row: Mapping[str, object],
    error: type[Exception],
) -> bool:
    try:
        scorer([completion], {name: [value] for name, value in row.items()})
    except Exception as raised:  # noqa: BLE001  # the error itself is raised by the caller
        return isinstance(raised, error)
    return False


def _to_reward(label: str, value: object, index: int) -> float:
    if value is None:
        return math.nan
    # Numpy's and torch's scalars are numbers to their owners.
    value = to_list(value)
    if not isinstance(value, int | float) or math.isinf(value):
        raise InvalidRewards(
            f"{label} returned {shorten(value)} for completion {index + 1}; expected a finite number, or None or NaN "
            "where there is nothing to score by"
        )
    return float(value)
