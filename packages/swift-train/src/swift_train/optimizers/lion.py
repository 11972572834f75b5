"""Lion: steps by the sign of an interpolation of gradient and momentum, all of one size.

    c = beta1 m + (1 - beta1) g; w = w (1 - lr decay) - lr sign(c); m = beta2 m + (1 - beta2) g

State: one float32 number per number. Every number moves by the learning rate in every step: take a rate 3 to 10 times
lower than for AdamW, and a decay as much higher.

Source: Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675, algorithm 2 and section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs, read_options
from ..parameter_optimizer import ParameterOptimizer, State, apply_direction
from ..parameter_places import Groups, divide_groups


@dataclass(frozen=True, kw_only=True)
class LionOptions:
    """What `--optim_args` may say."""

    beta1: float = 0.9
    """How much of the momentum is in a step."""
    beta2: float = 0.99
    """Decay of the momentum."""


class LionRule(ParameterOptimizer):
    """The method's rule."""

    takes_sharded = True

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by the sign."""
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        beta1, beta2 = group["betas"]
        apply_direction(parameter, state["momentum"].lerp(gradient, 1 - beta1).sign_(), group=group)
        state["momentum"].lerp_(gradient, 1 - beta2)


class Lion(OptimizerKind):
    """Lion, here."""

    options = LionOptions

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer; the betas are the paper's, not AdamW's."""
        options = read_options(LionOptions, args.optim_args, optimizer="lion")
        return LionRule([dict(group) for group in groups], defaults={"betas": [options.beta1, options.beta2]})

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return one float32 number per number."""
        return sum(4 * each.numel() for group in divide_groups(groups, lambda _: {}) for each in group["params"])
