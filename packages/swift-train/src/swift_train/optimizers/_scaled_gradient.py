"""APOLLO's rule: the gradient itself, scaled as Adam would scale it in a random space of low rank.

    R = P G with P of r random rows, N(0, 1/r); N = Adam's direction of R
    S_j = |N_j| / |R_j| for each column j, or one for the whole; W = W (1 - lr decay) - lr scale G S

P is drawn anew from a seed whenever it is needed, and so takes no memory. A step's size may grow by 1 % at most from
one step to the next. State, float32: 2 n r numbers for a weight of m <= n, and one.

Source: APOLLO: SGD-like Memory, AdamW-level Performance, arXiv 2412.05270, algorithm 1, section 4.2; the limit on
growth from Fira, arXiv 2410.01623, section 4.3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import ParameterOptimizer, State, adam_direction, apply_direction
from ..parameter_places import DividedGroup, Groups, divide_groups, find_matrices, locate_parameters
from ._low_rank import seen_shape

GROWTH = 1.01
"""A step's size by that of the step before, at most."""
_TINY = 1e-8


class ScaledGradientRule(ParameterOptimizer):
    """The method's rule; groups without 'rank' train by AdamW."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by the scaled gradient."""
        betas, epsilon = group["betas"], group["eps"]
        if "rank" not in group:
            apply_direction(parameter, adam_direction(gradient, state, betas=betas, epsilon=epsilon), group=group)
            return
        draw = state.get("step", 0) // group["update_proj_gap"]
        seed = group["seed"] + 1_000_003 * self.number_of(parameter) + 7_919 * draw
        seen = project_randomly(gradient, group["rank"], seed=seed)
        direction = adam_direction(seen, state, betas=betas, epsilon=epsilon)
        if group["by_channel"]:
            # The side that was not projected.
            dim = 0 if gradient.shape[0] < gradient.shape[1] else 1
            scaling = direction.norm(dim=dim, keepdim=True) / (seen.norm(dim=dim, keepdim=True) + _TINY)
        else:
            scaling = direction.norm() / (seen.norm() + _TINY)
        apply_direction(parameter, _limit_growth(gradient * scaling, state).mul_(group["scale"]), group=group)


def project_randomly(gradient: Tensor, rank: int, *, seed: int) -> Tensor:
    """Return a gradient seen through a random matrix, its smaller side projected.

    Args:
        gradient: float32 (m, n).
        rank: of the space; at most min(m, n).
        seed: of the matrix; the same numbers on the same device.

    Returns:
        (r, n) where m < n, else (m, r).
    """
    rank = min(rank, *gradient.shape)
    generator = torch.Generator(device=gradient.device).manual_seed(seed)
    small = min(gradient.shape)
    matrix = torch.randn(rank, small, generator=generator, device=gradient.device).div_(math.sqrt(rank))
    return matrix @ gradient if gradient.shape[0] < gradient.shape[1] else gradient @ matrix.T


def build_scaled_gradient(
    model: nn.Module,
    groups: Groups,
    args: OptimizerArgs,
    *,
    projected: dict[str, object],
    layerwise: bool,
) -> ScaledGradientRule:
    """Make the optimizer. Raises InvalidTrainArgs where no layer's own weight trains."""
    return ScaledGradientRule(
        divide_for_scaling(model, groups, args, projected=projected),
        defaults={"betas": [args.adam_beta1, args.adam_beta2], "eps": args.adam_epsilon},
        in_backward=layerwise,
    )


def scaled_gradient_bytes(
    model: nn.Module, groups: Groups, args: OptimizerArgs, *, projected: dict[str, object]
) -> int:
    """Return the float32 numbers of both moments in the space, and the size of the last step."""
    return sum(
        _bytes_of(each, group)
        for group in divide_for_scaling(model, groups, args, projected=projected)
        for each in group["params"]
    )


def divide_for_scaling(
    model: nn.Module, groups: Groups, args: OptimizerArgs, *, projected: dict[str, object]
) -> list[DividedGroup]:
    """Put the weights of linear layers in groups of their own, with the options of the method."""
    parameters = [each for group in groups for each in group["params"]]
    chosen = find_matrices(
        locate_parameters(model), parameters, args.galore_target_modules, with_embedding=args.galore_with_embedding
    )
    return divide_groups(groups, lambda parameter: projected if id(parameter) in chosen else {})


def _limit_growth(step: Tensor, state: State) -> Tensor:
    size = step.norm()
    if "size" in state:
        excess = (size / (state["size"] + _TINY)).clamp_min(GROWTH) / GROWTH
        step, size = step / excess, size / excess
    state["size"] = size
    return step


def _bytes_of(parameter: nn.Parameter, group: DividedGroup) -> int:
    if "rank" not in group:
        return 8 * parameter.numel()
    height, width = seen_shape(parameter.shape, group["rank"], "std")
    return 4 * (2 * height * width + 1)
