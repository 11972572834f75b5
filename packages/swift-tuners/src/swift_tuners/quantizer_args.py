"""What a user may say about quantized weights; light, so that a help text needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class QuantizationArgs:
    """How the frozen weights are quantized; a folder that is quantized already says it itself."""

    quant_method: str | None = None
    """Quantize the weights while they are loaded: bnb, hqq, torchao or eetq."""
    quant_bits: int | None = None
    """Bits of a weight: 4 or 8; by default 4, for torchao and eetq 8. hqq has 2 and 3 as well."""
    quant_group_size: int | None = None
    """Weights that share a scale, for hqq (64) and torchao with 4 bits (32); the others have sizes of their own."""
    bnb_4bit_compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type in which bnb with 4 bits multiplies; auto is the type of the other weights."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """Which 16 values a 4-bit weight of bnb can have: those of a normal distribution, or floats of 4 bits."""
    bnb_4bit_use_double_quant: bool = True
    """Quantize the scales of bnb's 4-bit weights too, which saves 0.4 bits a weight."""
