"""APOLLO-Mini: each weight's gradient scaled by one number, from a random space of rank 1.

State, float32: 2 n numbers for a weight of m <= n, and one. See `_scaled_gradient`.

Source: APOLLO: SGD-like Memory, AdamW-level Performance, arXiv 2412.05270, algorithm 1 and section 4.3.
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
class ApolloMiniOptions:
    """What `--optim_args` may say."""

    update_proj_gap: int = 200
    """Steps between two spaces."""
    scale: float = 128.0
    """Steps are scaled by the root of this: one number for a whole weight comes out too small."""
    seed: int = 0
    """Of the spaces."""


class ApolloMini(OptimizerKind):
    """APOLLO-Mini, here."""

    options = ApolloMiniOptions

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer. Raises InvalidTrainArgs where no layer's own weight trains."""
        return build_scaled_gradient(
            model, groups, args, projected=_read(args), layerwise=args.galore_optim_per_parameter
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the bytes of both moments in the space."""
        return scaled_gradient_bytes(model, groups, args, projected=_read(args))


def _read(args: OptimizerArgs) -> dict[str, Any]:
    options = read_options(ApolloMiniOptions, args.optim_args, optimizer="apollo_mini")
    if options.update_proj_gap < 1 or not options.scale > 0:
        raise InvalidTrainArgs(
            f"optim_args of 'apollo_mini' are {args.optim_args!r}; expected update_proj_gap of 1 or more and a "
            "positive scale"
        )
    return {**vars(options), "scale": math.sqrt(options.scale), "rank": 1, "by_channel": False}
