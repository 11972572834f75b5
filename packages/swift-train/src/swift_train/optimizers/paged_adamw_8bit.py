"""AdamW with moments in 8 bits that move to main memory when the GPU's is short, by bitsandbytes.

Source: QLoRA: Efficient Finetuning of Quantized LLMs, arXiv 2305.14314, section 3.
"""

from __future__ import annotations

import torch
from torch import nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_places import Groups
from ._bitsandbytes import PagedAdamW8bit, build_paged, state_bytes_8bit


class PagedAdamWInEightBits(OptimizerKind):
    """bitsandbytes' PagedAdamW8bit, for GPUs."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return bitsandbytes' own. Raises InvalidTrainArgs where parameters are on no GPU."""
        return build_paged(PagedAdamW8bit, "paged_adamw_8bit", "adamw_8bit", groups, args)

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return two bytes per number, and the scales."""
        return state_bytes_8bit(groups)
