"""Numbers as codes of few bits, with a scale and a zero point for each group.

    scale = (high - low) / (2^bits - 1); zero = round(-low / scale); code = round(x / scale) + zero

of a group's range, which always holds 0. Rounded stochastically, x / scale is rounded up with the probability of its
fraction, so that its mean stays; the scale is then a little wider, (high - low) / (2^bits - 2), so that nothing is cut.

Source: Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients, arXiv 2407.08296,
sections 3.2 and 3.4. Deviations: the range holds 0, since a zero point has no code elsewhere; the wider scale.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class GroupedCodes(NamedTuple):
    """Codes of consecutive numbers; the last group is filled up with zeros."""

    codes: Tensor
    """uint8; two codes of 4 bits in one, the first in the lower half."""
    scales: Tensor
    """float32, of each group."""
    zeros: Tensor
    """uint8, of each group."""


def encode(values: Tensor, *, bits: int, group_size: int, generator: torch.Generator | None = None) -> GroupedCodes:
    """Turn float32 numbers into codes.

    Args:
        values: of any shape.
        bits: 4 or 8.
        group_size: numbers that share a scale; even.
        generator: rounds stochastically; None rounds to the nearest.
    """
    flat = values.flatten()
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % group_size)).view(-1, group_size)
    low, high = flat.amin(1, keepdim=True).clamp_max(0), flat.amax(1, keepdim=True).clamp_min(0)
    most = 2**bits - 1
    scales = ((high - low) / (most - (generator is not None))).clamp_min(torch.finfo(torch.float32).tiny)
    if generator is None:
        zeros = (-low / scales).round_()
        steps = (flat / scales).round_()
    else:
        zeros = (-low / scales).ceil_()
        noise = torch.rand(flat.shape, generator=generator, device=flat.device)
        steps = (flat / scales).add_(noise).floor_()
    codes = steps.add_(zeros).clamp_(0, most).to(torch.uint8).flatten()
    if bits == 4:
        codes = codes[0::2] | (codes[1::2] << 4)
    return GroupedCodes(codes, scales.squeeze(1), zeros.squeeze(1).to(torch.uint8))


def decode(coded: GroupedCodes, shape: torch.Size | tuple[int, ...], *, bits: int) -> Tensor:
    """Return the float32 numbers, in the shape that they had."""
    codes = coded.codes
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=1).flatten()
    steps = codes.view(len(coded.scales), -1).float() - coded.zeros.unsqueeze(1)
    return steps.mul_(coded.scales.unsqueeze(1)).flatten()[: math.prod(shape)].view(shape)


def coded_bytes(size: int, *, bits: int, group_size: int) -> int:
    """Return the bytes of this many numbers: of each group the codes, a float32 scale and an 8-bit zero point."""
    return -(-size // group_size) * (group_size * bits // 8 + 5)
