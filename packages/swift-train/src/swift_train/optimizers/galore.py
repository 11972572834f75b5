"""GaLore: Adam in the space of a gradient's largest singular values; weights train in full.

    every T steps: P = the first r left singular vectors of G
    R = P^T G; N = Adam's direction of R; W = W (1 - lr decay) - lr scale P N

What is not the weight of a chosen linear layer trains by plain AdamW. State, float32: m r + 2 n r numbers for a weight
of m <= n. With `layerwise`, each weight is updated in the backward pass and its gradient freed, so that one gradient
lives at a time; the result is the same but for `max_grad_norm`, which needs all of them.

Source: GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection, arXiv 2403.03507, algorithm 2 and table
1; layer-wise updates: section 4.3. The names of `proj_type` are those of the authors' code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import ParameterOptimizer, State, adam_direction, apply_direction
from ..parameter_places import DividedGroup, Groups, divide_groups, find_matrices, locate_parameters
from ._low_rank import Projection, find_projection, projection_size, seen_shape


class GaloreRule(ParameterOptimizer):
    """The method's rule; groups without 'rank' train by AdamW."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by Adam's direction in the space."""
        betas, epsilon = group["betas"], group["eps"]
        if "rank" not in group:
            apply_direction(parameter, adam_direction(gradient, state, betas=betas, epsilon=epsilon), group=group)
            return
        if state.get("step", 0) % group["update_proj_gap"] == 0:
            space = find_projection(gradient, group["rank"], group["proj_type"])
            state.update({name: basis for name, basis in space._asdict().items() if basis is not None})
            seen = space.project_own(gradient)
        else:
            space = Projection(state.get("left"), state.get("right"))
            seen = space.project(gradient)
        direction = adam_direction(seen, state, betas=betas, epsilon=epsilon)
        apply_direction(parameter, space.back(direction).mul_(group["scale"]), group=group)


class Galore(OptimizerKind):
    """GaLore, here."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer. Raises InvalidTrainArgs where no layer's own weight trains."""
        return GaloreRule(
            divide_for_projection(model, groups, args),
            defaults={"betas": [args.adam_beta1, args.adam_beta2], "eps": args.adam_epsilon},
            in_backward=args.galore_optim_per_parameter,
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the float32 numbers of projections and moments."""
        return sum(
            _bytes_of(each, group) for group in divide_for_projection(model, groups, args) for each in group["params"]
        )


def divide_for_projection(model: nn.Module, groups: Groups, args: OptimizerArgs) -> list[DividedGroup]:
    """Put the weights to project in groups of their own, with 'rank', 'update_proj_gap', 'scale' and 'proj_type'.

    Raises:
        InvalidTrainArgs: no layer's own weight trains, or a name chooses none.
    """
    parameters = [each for group in groups for each in group["params"]]
    chosen = find_matrices(
        locate_parameters(model), parameters, args.galore_target_modules, with_embedding=args.galore_with_embedding
    )
    projected: dict[str, object] = {
        "rank": args.galore_rank,
        "update_proj_gap": args.galore_update_proj_gap,
        "scale": args.galore_scale,
        "proj_type": args.galore_proj_type,
    }
    return divide_groups(groups, lambda parameter: projected if id(parameter) in chosen else {})


def _bytes_of(parameter: nn.Parameter, group: DividedGroup) -> int:
    if "rank" not in group:
        return 8 * parameter.numel()
    rank, proj_type = group["rank"], group["proj_type"]
    height, width = seen_shape(parameter.shape, rank, proj_type)
    return 4 * (projection_size(parameter.shape, rank, proj_type) + 2 * height * width)
