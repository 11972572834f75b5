"""Adam-mini: Adam whose second moment is one number for each block of a parameter.

Blocks follow the Hessian's: queries and keys by heads, other weights by output neurons, embedding and head by tokens,
and vectors (norms, biases) as a whole. State, float32: N numbers and one for each block.

Source: Adam-mini: Use Fewer Learning Rates To Gain More, arXiv 2406.16793, algorithms 1 and 3. Deviations: what holds
queries, keys and values in one is taken by heads throughout; stacked experts by each expert's neurons.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import ParameterOptimizer, State, apply_direction
from ..parameter_places import DividedGroup, Groups, ParameterPlaces, divide_groups, locate_parameters

QUERIES_AND_KEYS = re.compile(r"^(?:q|k|query|key|wq|wk|q_proj|k_proj|qkv|qkv_proj|c_attn|query_key_value|Wqkv)$")
"""The last parts of the names of layers that make queries or keys, or these and the values."""


class AdamMiniRule(ParameterOptimizer):
    """The method's rule; 'rows' of a group is how many rows of a matrix make a block, 0 for all of a parameter."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by the first moment over the root of the block's second moment."""
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(gradient)
            state["exp_avg_sq"] = gradient.new_zeros(count_blocks(gradient.shape, group["rows"], group["transposed"]))
        step = state["step"] = state.get("step", 0) + 1
        beta1, beta2 = group["betas"]
        squares = _mean_squares(gradient, group["rows"], group["transposed"])
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].lerp_(squares, 1 - beta2)
        root = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"]).mul_(1 - beta1**step)
        spread = _spread(root, gradient.shape, group["rows"], group["transposed"])
        apply_direction(parameter, state["exp_avg"] / spread, group=group)


class AdamMini(OptimizerKind):
    """Adam-mini, here."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer, with blocks by the model's own shapes."""
        betas = [args.adam_beta1, args.adam_beta2]
        return AdamMiniRule(_divide(model, groups), defaults={"betas": betas, "eps": args.adam_epsilon})

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return one float32 number per number, and one per block."""
        return sum(
            4 * (each.numel() + count_blocks(each.shape, group["rows"], group["transposed"]))
            for group in _divide(model, groups)
            for each in group["params"]
        )


def count_blocks(shape: torch.Size, rows: int, transposed: bool) -> int:
    """Return how many blocks a parameter has.

    Args:
        shape: of the parameter.
        rows: that make a block; 0 takes all of the parameter.
        transposed: whether the output neurons are its columns.
    """
    if not rows:
        return 1
    if len(shape) == 3:
        return shape[0] * shape[1]
    return (shape[1] if transposed else shape[0]) // rows


def _divide(model: nn.Module, groups: Groups) -> list[DividedGroup]:
    places = locate_parameters(model)
    return divide_groups(groups, lambda parameter: _describe(parameter, places))


def _describe(parameter: nn.Parameter, places: ParameterPlaces) -> dict[str, object]:
    if parameter.ndim < 2:
        return {"rows": 0, "transposed": False}
    place = places.of.get(id(parameter))
    # The linear layer of GPT-2 holds its weight transposed.
    transposed = place is not None and place.is_own and type(place.module).__name__ == "Conv1D" and parameter.ndim == 2
    rows = 1
    if place is not None and place.is_own and QUERIES_AND_KEYS.search(place.name.rpartition(".")[2]):
        outputs = parameter.shape[1 if transposed else 0]
        size = _head_size(place.name, places)
        rows = size if size and parameter.ndim == 2 and outputs % size == 0 else 1
    return {"rows": rows, "transposed": transposed}


def _head_size(name: str, places: ParameterPlaces) -> int | None:
    """Return how many rows make a head of this layer's attention, if the model says."""
    for root in places.map.attention:
        if name.startswith(f"{root}."):
            holder = places.modules.get(root)
            size = getattr(holder, "head_dim", None)
            config = getattr(holder, "config", None)
            heads, hidden = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
            if not isinstance(size, int) and isinstance(heads, int) and isinstance(hidden, int):
                size = hidden // heads
            return size if isinstance(size, int) else None
    return None


def _mean_squares(gradient: Tensor, rows: int, transposed: bool) -> Tensor:
    """Return each block's mean square."""
    if not rows:
        return gradient.square().mean().reshape(1)
    if gradient.ndim == 3:
        return gradient.square().mean(dim=-1).flatten()
    by_neuron = gradient.T if transposed else gradient.flatten(start_dim=1)
    return by_neuron.square().mean(dim=1).unflatten(0, (-1, rows)).mean(dim=1)


def _spread(values: Tensor, shape: torch.Size, rows: int, transposed: bool) -> Tensor:
    """Return one number per block in a shape that goes with the parameter's."""
    if not rows:
        return values.reshape([1] * len(shape))
    if len(shape) == 3:
        return values.reshape(shape[0], shape[1], 1)
    by_neuron = values.repeat_interleave(rows)
    return by_neuron.unsqueeze(0) if transposed else by_neuron.reshape(-1, *[1] * (len(shape) - 1))
