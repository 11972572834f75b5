"""Every registered optimizer holds the laws of `check_optimizer`, and these find what is broken."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from swift_train.optimizer import OPTIMIZERS
from swift_train.optimizer_args import OptimizerArgs
from swift_train.optimizer_testing import check_optimizer
from swift_train.optimizers.lion import Lion, LionRule
from swift_train.parameter_optimizer import State
from torch import Tensor, nn

RATES = {"lion": 1e-3, "apollo": 1e-2, "apollo_mini": 1e-2, "badam": 1e-2}
"""Lion's steps are all of one size; APOLLO keeps the gradient's direction; BAdam trains a part in each step."""
ARGS = {
    "apollo": OptimizerArgs(optim_args="rank=16,update_proj_gap=2"),
    "apollo_mini": OptimizerArgs(optim_args="update_proj_gap=2"),
    "badam": OptimizerArgs(optim_args="switch_interval=2"),
}
GPU_ONLY = {"paged_adamw_8bit", "paged_adamw_32bit"}
INTERVALS = OptimizerArgs(galore_rank=16, galore_update_proj_gap=2, galore_proj_group_size=64)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS.names()) - GPU_ONLY))
def test_an_optimizer_holds_the_laws(name: str) -> None:
    check_optimizer(name, ARGS.get(name, INTERVALS), learning_rate=RATES.get(name, 3e-3))


class RightRule(LionRule):
    """What faults are planted in."""


class Forgets(RightRule):
    """Goes on without what it has seen."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load rates only."""
        super().load_state_dict({**state_dict, "state": {}})


class KeepsObjects(RightRule):
    """Has what no file takes in its state."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Keep a generator."""
        super().update(parameter, gradient, state, group)
        state["generator"] = torch.Generator()


class KeepsMore(RightRule):
    """Has a tensor more than was said."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Keep the gradient."""
        super().update(parameter, gradient, state, group)
        state["last"] = gradient.clone()


class IgnoresRate(RightRule):
    """Steps as far as it likes."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by 0.001."""
        super().update(parameter, gradient, state, {**group, "lr": 1e-3})


class IgnoresDecay(RightRule):
    """Decays nothing."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step without decay."""
        super().update(parameter, gradient, state, {**group, "weight_decay": 0.0})


class Climbs(RightRule):
    """Goes the wrong way."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step uphill."""
        super().update(parameter, -gradient, state, group)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param(Forgets, "ends with the same bits", id="forgets"),
        pytest.param(KeepsObjects, "expected plain data", id="keeps objects"),
        pytest.param(KeepsMore, "were predicted", id="keeps more"),
        pytest.param(IgnoresRate, "doubles", id="ignores rate"),
        pytest.param(IgnoresDecay, "shrinks by", id="ignores decay"),
        pytest.param(Climbs, "falls from", id="climbs"),
    ],
)
def test_a_broken_law_is_found(rule: type[RightRule], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: Lion, model: nn.Module, groups: list[dict[str, Any]], args: OptimizerArgs) -> RightRule:
        return rule(groups, defaults={"betas": [0.9, 0.99]})

    monkeypatch.setattr(Lion, "build", build)
    with pytest.raises(AssertionError, match=message):
        check_optimizer("lion", learning_rate=1e-3)
