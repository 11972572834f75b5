"""Q-GaLore: GaLore with projections in 4 bits, moments in 8 bits, and, if asked, weights in 8 bits.

A layer whose space hardly turns from one choice to the next has it chosen anew more rarely: where the mean cosine of
the last `queue_size` pairs of first vectors reaches the threshold, T becomes gamma T. Weights in 8 bits are rounded
stochastically after each step, so that small steps are not lost.

State of a weight of m <= n: m r / 2 bytes of projection, 2 n r bytes of moments, with scales for groups of 256; less
than 4096 numbers keep float32 moments. Weights in 8 bits are in the state_dict too, so that a run goes on to the bit.

Source: Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients, arXiv 2407.08296,
sections 3.2 to 3.4. Deviations: the first vector of the space before is the one kept in 4 bits; cosines are taken
without their sign, which a singular vector does not have; weights in 8 bits are an option; see also `_grouped_codes`.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..optimizer import OptimizerKind
from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import ParameterOptimizer, State, apply_direction
from ..parameter_places import DividedGroup, Groups
from ._bitsandbytes import adam_direction_8bit, moment_bytes
from ._grouped_codes import GroupedCodes, coded_bytes, decode, encode
from ._int8_weight import Int8Weight, to_int8
from ._low_rank import Projection, find_projection, projected_sides, seen_shape
from .galore import divide_for_projection

_PROJECTION_BITS = 4
_WEIGHT = "weight_"


class QGaloreRule(ParameterOptimizer):
    """The method's rule; groups without 'rank' train by AdamW in 8 bits."""

    def update(self, parameter: nn.Parameter, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        """Step by Adam's direction in the space."""
        if "rank" not in group:
            apply_direction(parameter, adam_direction_8bit(gradient, state, group=group), group=group)
            return
        step = state.get("step", 0)
        if step % state.setdefault("gap", group["update_proj_gap"]) == 0:
            _choose_space(gradient, state, group)
        space = _read_space(state, gradient.shape, group)
        direction = space.back(adam_direction_8bit(space.project(gradient), state, group=group)).mul_(group["scale"])
        if not isinstance(parameter, Int8Weight):
            apply_direction(parameter, direction, group=group)
            return
        weight = parameter.floats(torch.float32)
        apply_direction(weight, direction, group=group)
        generator = torch.Generator(device=weight.device).manual_seed(1_000_003 * self.number_of(parameter) + step)
        parameter.assign(weight, generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the codes of weights in 8 bits."""
        saved = super().state_dict()
        for number, parameter in enumerate(chain.from_iterable(group["params"] for group in self.param_groups)):
            if isinstance(parameter, Int8Weight):
                codes = {_WEIGHT + name: tensor for name, tensor in parameter.coded._asdict().items()}
                saved["state"][number] = {**saved["state"].get(number, {}), **codes}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, and weights in 8 bits with it."""
        super().load_state_dict(state_dict)
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            codes = {name: self.state[parameter].pop(name) for name in list(self.state[parameter]) if _WEIGHT in name}
            if not self.state[parameter]:
                del self.state[parameter]
            if codes and isinstance(parameter, Int8Weight):
                for name, tensor in parameter.coded._asdict().items():
                    tensor.copy_(codes[_WEIGHT + name])


class QGalore(OptimizerKind):
    """Q-GaLore, here, with bitsandbytes' moments."""

    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer; with galore_int8_weights, the projected weights are turned into 8 bits."""
        divided = _divide(model, groups, args)
        if args.galore_int8_weights:
            for parameter in chain.from_iterable(group["params"] for group in divided if "rank" in group):
                to_int8(parameter)
        return QGaloreRule(
            divided,
            defaults={"betas": [args.adam_beta1, args.adam_beta2], "eps": args.adam_epsilon},
            in_backward=args.galore_optim_per_parameter,
        )

    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the bytes of projections and moments; the weights themselves are no state."""
        return sum(_bytes_of(each, group) for group in _divide(model, groups, args) for each in group["params"])


def _divide(model: nn.Module, groups: Groups, args: OptimizerArgs) -> list[DividedGroup]:
    divided = divide_for_projection(model, groups, args)
    for group in divided:
        if "rank" in group:
            group |= {
                "group_size": args.galore_proj_group_size,
                "cos_threshold": args.galore_cos_threshold,
                "gamma_proj": args.galore_gamma_proj,
                "queue_size": args.galore_queue_size,
            }
    return divided


def _choose_space(gradient: Tensor, state: State, group: dict[str, Any]) -> None:
    """Choose the space anew, and how long it stays."""
    found = find_projection(gradient, group["rank"], group["proj_type"])
    if "similarities" in state:
        before = _read_space(state, gradient.shape, group)
        old, new = (each.left if each.left is not None else each.right for each in (before, found))
        assert old is not None and new is not None, "some side is projected"
        cosine = nn.functional.cosine_similarity(old[:, 0], new[:, 0], dim=0).abs().item()
        similarities = state["similarities"] = [*state["similarities"], cosine][-group["queue_size"] :]
        if len(similarities) == group["queue_size"] and sum(similarities) / len(similarities) >= group["cos_threshold"]:
            state["gap"] = int(state["gap"] * group["gamma_proj"])
    state.setdefault("similarities", [])
    for side, basis in found._asdict().items():
        if basis is not None:
            coded = encode(basis, bits=_PROJECTION_BITS, group_size=group["group_size"])
            state.update({f"{side}_{name}": tensor for name, tensor in coded._asdict().items()})


def _read_space(state: State, shape: torch.Size, group: dict[str, Any]) -> Projection:
    rank = min(group["rank"], *shape)
    rows, columns = projected_sides(shape, group["proj_type"])
    sides = {"left": shape[0] if rows else None, "right": shape[1] if columns else None}
    return Projection(
        **{
            side: None
            if size is None
            else decode(
                GroupedCodes(*(state[f"{side}_{name}"] for name in GroupedCodes._fields)),
                (size, rank),
                bits=_PROJECTION_BITS,
            )
            for side, size in sides.items()
        }
    )


def _bytes_of(parameter: nn.Parameter, group: DividedGroup) -> int:
    if "rank" not in group:
        return moment_bytes(parameter.numel())
    height, width = seen_shape(parameter.shape, group["rank"], group["proj_type"])
    rank = min(group["rank"], *parameter.shape)
    sides = zip(parameter.shape, projected_sides(parameter.shape, group["proj_type"]), strict=True)
    projections = sum(
        coded_bytes(size * rank, bits=_PROJECTION_BITS, group_size=group["group_size"])
        for size, is_projected in sides
        if is_projected
    )
    return projections + moment_bytes(height * width)
