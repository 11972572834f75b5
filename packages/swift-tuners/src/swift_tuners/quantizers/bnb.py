"""bitsandbytes: 4 bits (NF4 or FP4) and 8 bits, quantized while loading."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..quantizer import LoadRequest, Quantizer, is_instance_of

_FOUR, _EIGHT = "bitsandbytes.Linear4bit", "bitsandbytes.Linear8bitLt"


class BitsAndBytes(Quantizer):
    """Layers of bitsandbytes; 8-bit ones quantize their inputs as well (LLM.int8)."""

    name: ClassVar[str] = "bnb"
    requires: ClassVar[tuple[str, ...]] = ("bitsandbytes",)
    formats: ClassVar[frozenset[str]] = frozenset({"bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"})
    bits: ClassVar[tuple[int, ...]] = (4, 8)
    can_save: ClassVar[bool] = True
    evidence: ClassVar[str] = "tested in CI on the CPU, 4 and 8 bits"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return a BitsAndBytesConfig, or nothing for a folder that holds one."""
        import torch
        from transformers import BitsAndBytesConfig

        if request.bits == 0:
            return {}
        if request.bits == 8:
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
        wanted = request.args.bnb_4bit_compute_dtype
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=request.args.bnb_4bit_quant_type,
            bnb_4bit_use_double_quant=request.args.bnb_4bit_use_double_quant,
            bnb_4bit_compute_dtype=request.dtype if wanted == "auto" else getattr(torch, wanted),
        )
        return {"quantization_config": config}

    def finish(self, model: nn.Module, request: LoadRequest) -> None:
        """Keep the layers from changing their weights on the way."""
        for module in model.modules():
            if is_instance_of(module, _FOUR):
                # On CPUs with AVX512-BF16, the first forward pass in evaluation mode would repack the weights for a
                # bfloat16 kernel, and training would unpack them with other scales: a model that has been evaluated
                # once answers otherwise and its gradients stop. Seen with bitsandbytes 0.50.2; to be removed when
                # `Linear4bit.forward` does not write to its weight any more.
                cast("Any", module).support_avx512bf16_for_cpu = False
            elif is_instance_of(module, _EIGHT):
                module.register_forward_pre_hook(_restore_scales)
        # It says at every layer of every step that float32 inputs become float16.
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is a Linear4bit or a Linear8bitLt."""
        return is_instance_of(module, _FOUR, _EIGHT)

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Return the weights that the layer multiplies with."""
        from bitsandbytes import functional

        own = cast("Any", layer)
        if is_instance_of(layer, _FOUR):
            weight: Tensor = functional.dequantize_4bit(own.weight.data, own.weight.quant_state)
            return weight.float().clone()
        scales = own.weight.SCB if own.weight.SCB is not None else own.state.SCB
        # A row's largest weight is 127.
        return own.weight.data.float() * (scales.float().unsqueeze(1) / 127)


def round_to_nf4(weight: Tensor) -> Tensor:
    """Return weights as NF4 in blocks of 64 keeps them. Raises ImportError where bitsandbytes is missing."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=64, compress_statistics=False, quant_type="nf4"
    )
    rounded: Tensor = functional.dequantize_4bit(packed, state)
    return rounded


def _restore_scales(layer: nn.Module, _inputs: tuple[object, ...]) -> None:
    # PEFT's methods that read the weights (DoRA, OFT, ...) put them back as a new parameter without scales, and the
    # layer would forget those it had. Seen with PEFT 0.21.2; to be removed when
    # `peft.utils.integrations.dequantize_module_weight` keeps SCB.
    weight, state = cast("Any", layer).weight, cast("Any", layer).state
    if weight.CB is not None and weight.SCB is None:
        weight.SCB = state.SCB


def _is_no_cast(record: logging.LogRecord) -> bool:
    return "inputs will be cast from" not in record.getMessage()
