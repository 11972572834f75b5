"""LoftQ's start: the base weight as 4 or 8 bits can hold it, and a LoRA that makes up for some of the difference.

W is written as Q + L R, in turns: Q is W - L R quantized, and L R the best approximation of rank r to W - Q.

Source: LoftQ, arXiv 2310.08659, algorithm 1. PEFT's own computes on CUDA or XPU only; this one where the weight is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from .errors import MissingDependency, UnsupportedConfig
from .quantizers.bnb import round_to_nf4

if TYPE_CHECKING:
    from peft import LoraConfig

    from .peft_layers import PeftLayer


@torch.no_grad()
def loftq_factors(layer: PeftLayer, config: LoraConfig, adapter: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return Q in the weight's own type, A and B of a layer.

    Raises:
        MissingDependency: bitsandbytes is not installed.
        UnsupportedConfig: loftq_config asks for what it cannot do.
    """
    options = cast("dict[str, int]", config.loftq_config)
    num_bits, num_iter = options.get("loftq_bits", 4), options.get("loftq_iter", 1)
    if num_bits not in (4, 8) or num_iter < 1:
        raise UnsupportedConfig(f"loftq_config is {options!r}; expected loftq_bits 4 or 8 and loftq_iter of 1 or more")
    held = cast("Any", layer)
    own: Tensor = held.get_base_layer().weight.detach()
    if held.fan_in_fan_out:
        raise UnsupportedConfig("init_lora_weights='loftq' needs weights of shape (out, in), as nn.Linear has them")
    weight, rank = own.float(), int(held.r[adapter])
    rest = weight
    for _ in range(num_iter):
        quantized = _round_trip(rest, num_bits)
        left, values, right = torch.linalg.svd(weight - quantized, full_matrices=False)
        roots = values[:rank].sqrt()
        factor_b, factor_a = left[:, :rank] * roots, roots[:, None] * right[:rank]
        rest = weight - factor_b @ factor_a
    # PEFT forgets that the layer multiplies by its scale; Q is the same here and there.
    return quantized.to(own.dtype), factor_a, factor_b / held.scaling[adapter]


def _round_trip(weight: Tensor, num_bits: int) -> Tensor:
    """Quantize and dequantize: 4 bits as NF4 in blocks of 64, 8 bits with one scale a row."""
    if num_bits == 8:
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        return (weight / scale).round() * scale
    try:
        return round_to_nf4(weight)
    except ImportError as error:
        raise MissingDependency("LoftQ in 4 bits needs bitsandbytes; pip install 'swift-tuners[bnb]'") from error
