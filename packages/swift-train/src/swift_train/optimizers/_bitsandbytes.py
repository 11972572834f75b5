"""bitsandbytes' optimizers: moments in 8 bits, with a scale for each 256 numbers.

The one module here that imports bitsandbytes.

Source: 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bitsandbytes.functional import create_dynamic_map, optimizer_update_8bit_blockwise
from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit, PagedAdamW32bit
from torch import Tensor

from ..errors import InvalidTrainArgs
from ..optimizer_args import OptimizerArgs
from ..parameter_optimizer import State, adam_direction
from ..parameter_places import Groups, divide_groups

BLOCK = 256
"""Numbers that share a scale."""
SMALLEST = 4096
"""Smaller tensors keep float32 moments."""
MAP_BYTES = 2 * 256 * 4
"""The values of the 256 codes, for both moments, once for all parameters."""

# Numbers that are updated at once: on CPU bitsandbytes makes several float32 copies of them.
_CHUNK = 1024 * BLOCK

_maps: dict[torch.device, tuple[Tensor, Tensor]] = {}


def build_adamw(
    kind: type[AdamW8bit | PagedAdamW8bit | PagedAdamW32bit], groups: Groups, args: OptimizerArgs
) -> torch.optim.Optimizer:
    """Make one of bitsandbytes' AdamW."""
    optimizer: torch.optim.Optimizer = kind(
        [dict(group) for group in groups],
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        min_8bit_size=SMALLEST,
    )
    return optimizer


def build_paged(
    kind: type[PagedAdamW8bit | PagedAdamW32bit], name: str, instead: str, groups: Groups, args: OptimizerArgs
) -> torch.optim.Optimizer:
    """Make one whose state the GPU's driver moves between main and GPU memory.

    Raises:
        InvalidTrainArgs: the parameters are on no GPU.
    """
    devices = {each.device.type for group in groups for each in group["params"]}
    if devices != {"cuda"}:
        raise InvalidTrainArgs(
            f"optim is {name!r}, whose state a GPU's driver moves to main memory and back, and parameters are on "
            f"{', '.join(sorted(devices))}; use --optim {instead}"
        )
    return build_adamw(kind, groups, args)


def state_bytes_8bit(groups: Groups) -> int:
    """Return the bytes of 8-bit moments: two codes per number, two scales per block; float32 for small tensors."""
    trained = [each for group in divide_groups(groups, lambda _: {}) for each in group["params"]]
    return sum(moment_bytes(each.numel()) for each in trained) + MAP_BYTES * any(
        each.numel() >= SMALLEST for each in trained
    )


def moment_bytes(size: int) -> int:
    """Return the bytes of both moments of a tensor of this many numbers, without the map of codes."""
    return 8 * size if size < SMALLEST else 2 * size + 8 * (-(-size // BLOCK))


def adam_direction_8bit(gradient: Tensor, state: State, *, group: Mapping[str, Any]) -> Tensor:
    """As `adam_direction`, with moments in 8 bits where there are many.

    Args:
        gradient: float32.
        state: gets 'step' and the moments: 'state1' and 'state2' uint8 codes, 'absmax1' and 'absmax2' float32 scales.
        group: with 'betas' and 'eps'.
    """
    if gradient.numel() < SMALLEST:
        return adam_direction(gradient, state, betas=group["betas"], epsilon=group["eps"])
    gradient = gradient.contiguous()
    if "state1" not in state:
        blocks = -(-gradient.numel() // BLOCK)
        for moment in ("1", "2"):
            state[f"state{moment}"] = torch.zeros_like(gradient, dtype=torch.uint8)
            state[f"absmax{moment}"] = gradient.new_zeros(blocks)
    state["step"] = state.get("step", 0) + 1
    signed, unsigned = _code_maps(gradient.device)
    # The update of a parameter of zeros, with rate 1 and no decay, is the direction.
    moved = torch.zeros_like(gradient)
    beta1, beta2 = group["betas"]
    whole = (gradient, moved, state["state1"], state["state2"])
    for start in range(0, gradient.numel(), _CHUNK):
        scales = slice(start // BLOCK, (start + _CHUNK) // BLOCK)
        parts = [each.view(-1)[start : start + _CHUNK] for each in whole]
        optimizer_update_8bit_blockwise(
            "adam",
            parts[0],
            parts[1],
            parts[2],
            parts[3],
            beta1,
            beta2,
            0.0,
            0.0,
            group["eps"],
            state["step"],
            1.0,
            signed,
            unsigned,
            state["absmax1"][scales],
            state["absmax2"][scales],
        )
    return moved.neg_()


def _code_maps(device: torch.device) -> tuple[Tensor, Tensor]:
    if device not in _maps:
        _maps[device] = (create_dynamic_map(signed=True).to(device), create_dynamic_map(signed=False).to(device))
    return _maps[device]


__all__ = [
    "AdamW8bit",
    "PagedAdamW8bit",
    "PagedAdamW32bit",
    "adam_direction_8bit",
    "build_adamw",
    "build_paged",
    "moment_bytes",
    "state_bytes_8bit",
]
