"""Rewards: how good are completions, as one number each, for RL, sampling and evaluation.

A reward is called as TRL calls its reward functions, `reward(completions, solution=[...], ...)`: the rows' columns are
lists by name, one value for each completion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from swift_templates.registry import Registry

from .errors import InvalidArgument, MissingColumn

Column: TypeAlias = Sequence[str | None]
"""A column's value for each completion; None where the row has none."""


@dataclass(frozen=True, kw_only=True)
class RewardExample:
    """One completion, its row's columns, and the reward it must get."""

    completion: str
    columns: Mapping[str, str | None]
    reward: float


class Reward(ABC):
    """Scores completions.

    Attributes:
        needs: columns that a caller must give; others are ignored unless a reward reads them.
        examples: they document the reward, and tests run on them.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    examples: ClassVar[tuple[RewardExample, ...]]

    def __call__(self, completions: Sequence[str], **columns: Column) -> list[float]:
        """Return one number for each completion; NaN where there is nothing to score it by.

        Args:
            completions: texts of the model.
            columns: the rows' columns, each as long as `completions`.

        Raises:
            MissingColumn: a column of `needs` is not given.
            InvalidArgument: such a column has another length.
        """
        for name in self.needs:
            if name not in columns:
                raise MissingColumn(
                    f"{type(self).__name__} needs the column {name!r}; given are {sorted(columns)}: add it to the rows"
                )
            if len(columns[name]) != len(completions):
                raise InvalidArgument(
                    f"the column {name!r} has {len(columns[name])} values for {len(completions)} completions; "
                    "expected equally many"
                )
        return self.score(completions, columns)

    @abstractmethod
    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Do what `__call__` says; the columns of `needs` are there and as long as `completions`."""


# The registry checks against its base and never makes one, so the base may be abstract.
REWARDS = Registry(kind="reward", package="swift_data.rewards", base=Reward)


def load_reward(name: str) -> Reward:
    """Return a new instance of a registered reward.

    Raises:
        UnknownName: none is registered under this name (swift_templates.errors).
    """
    return REWARDS.load_class(name)()
