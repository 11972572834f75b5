"""AdamW whose float32 moments move to main memory when the GPU's is short, by bitsandbytes.

Source: QLoRA: Efficient Finetuning of Quantized LLMs, arXiv 2305.14314, section 3.
"""

from __future__ import annotations

import torch
from torch import nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_places import Groups, divide_groups
from ._bitsandbytes import PagedAdamW32bit, build_paged


class PagedAdamW(OptimizerKind):
    """bitsandbytes' PagedAdamW32bit, for GPUs."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return bitsandbytes' own. Raises InvalidTrainArgs where parameters are on no GPU."""
        return build_paged(PagedAdamW32bit, "paged_adamw_32bit", "adamw", groups, args)

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return two float32 moments per number."""
        return sum(8 * each.numel() for group in divide_groups(groups, lambda _: {}) for each in group["params"])
