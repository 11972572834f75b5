"""APOLLO: gradients scaled channel by channel, as Adam would scale them in a random space of low rank.

State, float32: 2 n r numbers for a weight of m <= n, and one. See `_scaled_gradient`.

Source: APOLLO: SGD-like Memory, AdamW-level Performance, arXiv 2412.05270, algorithm 1 and table 1. Deviation: a weight
that is larger in rows is taken transposed, as in the authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InvalidTrainArgs
from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs, read_options
from ..parameter_places import Groups
from ._scaled_gradient import build_scaled_gradient, scaled_gradient_bytes


@dataclass(frozen=True, kw_only=True)
class ApolloOptions:
    """What `--optim_args` may say."""

    rank: int = 128
    """Of the random space; at most a weight's smaller side."""
    update_proj_gap: int = 200
    """Steps between two spaces."""
    scale: float = 1.0
    """Steps are scaled by the root of this, as in the authors' code."""
    scale_type: str = "channel"
    """One scale for each channel, or for the whole weight: channel or tensor."""
    proj: str = "random"
    """The only kind of space here: random."""
    proj_type: str = "std"
    """The only side that is projected here: std, the smaller one."""
    seed: int = 0
    """Of the spaces."""


class Apollo(OptimizerKind):
    """APOLLO, here."""

    options = ApolloOptions

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer. Raises InvalidTrainArgs where no layer's own weight trains."""
        return build_scaled_gradient(
            model, groups, args, projected=_read(args), layerwise=args.galore_optim_per_parameter
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the bytes of both moments in the space."""
        return scaled_gradient_bytes(model, groups, args, projected=_read(args))


def _read(args: OptimizerArgs) -> dict[str, Any]:
    options = read_options(ApolloOptions, args.optim_args, optimizer="apollo")
    numbers_fit = options.rank >= 1 and options.update_proj_gap >= 1 and options.scale > 0
    words_fit = options.scale_type in ("channel", "tensor") and (options.proj, options.proj_type) == ("random", "std")
    if not numbers_fit or not words_fit:
        raise InvalidTrainArgs(
            f"optim_args of 'apollo' are {args.optim_args!r}; expected rank and update_proj_gap of 1 or more, a "
            "positive scale, scale_type channel or tensor, proj random and proj_type std"
        )
    return {
        "rank": options.rank,
        "update_proj_gap": options.update_proj_gap,
        "scale": math.sqrt(options.scale),
        "seed": options.seed,
        "by_channel": options.scale_type == "channel",
    }
