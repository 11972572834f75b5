"""Adafactor: the second moment of a matrix as the product of its rows' and columns' means; no first moment.

State, float32: rows + columns of a matrix, all numbers of a vector, and one number per parameter. The learning rate is
the run's: neither relative steps nor a scaling by the parameters' size.

Source: Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, arXiv 1804.04235, algorithms 4 and 5.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers.optimization import Adafactor as TransformersAdafactor

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import KeepsPrecision
from ..parameter_places import Groups, divide_groups


class PreciseAdafactor(KeepsPrecision, TransformersAdafactor):
    """transformers' Adafactor, whose float32 state stays so when it is loaded for parameters of fewer bits."""


class Adafactor(OptimizerKind):
    """transformers' Adafactor with the run's learning rate."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return transformers' own."""
        return PreciseAdafactor(
            [dict(group) for group in groups], lr=groups[0]["lr"], scale_parameter=False, relative_step=False
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the float32 numbers of rows and columns, and one for the size of each parameter."""
        trained = [each for group in divide_groups(groups, lambda _: {}) for each in group["params"]]
        return sum(4 * (_moments(each.shape) + 1) for each in trained)


def _moments(shape: torch.Size) -> int:
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod((*shape[:-2], shape[-1]))
