"""AdamW, torch's fused kernel.

State: two moments in the parameters' own precision, and a step count, so 2 N numbers and 4 bytes per parameter.

Source: Decoupled Weight Decay Regularization, arXiv 1711.05101, algorithm 2.
"""

from __future__ import annotations

import torch
from torch import nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_places import Groups, divide_groups


class AdamW(OptimizerKind):
    """torch.optim.AdamW with fused=True, on CPU as well."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return torch's own."""
        return torch.optim.AdamW(
            [dict(group) for group in groups],
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            fused=True,
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return two moments per number, and a float32 count per parameter."""
        trained = [each for group in divide_groups(groups, lambda _: {}) for each in group["params"]]
        return sum(2 * each.numel() * each.element_size() + 4 for each in trained)
