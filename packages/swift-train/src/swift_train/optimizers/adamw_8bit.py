"""AdamW with moments in 8 bits, by bitsandbytes, on CPU as well.

State: two bytes per number and two float32 scales per 256; parameters of fewer than 4096 numbers keep float32 moments.

Source: 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861, section 2.
"""

from __future__ import annotations

import torch
from torch import nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_places import Groups
from ._bitsandbytes import AdamW8bit, build_adamw, state_bytes_8bit


class AdamWInEightBits(OptimizerKind):
    """bitsandbytes' AdamW8bit."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return bitsandbytes' own."""
        return build_adamw(AdamW8bit, groups, args)

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return two bytes per number, and the scales."""
        return state_bytes_8bit(groups)
