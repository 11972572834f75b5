"""What GPTQ and AWQ share: both are read by gptqmodel, whose layers differ in their class only."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..quantizer import Quantizer, is_instance_of


class GptqModelQuantizer(Quantizer):
    """Reads folders that were quantized with data; needs a kernel that lets gradients through."""

    requires: ClassVar[tuple[str, ...]] = ("gptqmodel",)
    bits: ClassVar[tuple[int, ...]] = ()
    method: ClassVar[str]
    """The name in SUPPORTS_METHODS of gptqmodel's layers."""

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is a layer of gptqmodel for this method."""
        if not is_instance_of(module, "gptqmodel.BaseQuantLinear"):
            return False
        methods = getattr(module, "SUPPORTS_METHODS", ())
        return any(str(getattr(each, "value", each)) == self.method for each in methods)

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Multiply with the identity: each kernel packs the weights in a way of its own."""
        own = cast("Any", layer)
        device = next(each.device for each in (*layer.parameters(), *layer.buffers()))
        with torch.no_grad():
            product: Tensor = layer(torch.eye(own.in_features, device=device, dtype=_scale_dtype(layer)))
            if own.bias is not None:
                product = product - own.bias
        return product.t().float().contiguous()


def _scale_dtype(layer: nn.Module) -> torch.dtype:
    # Off the GPU kernels take float32, on it the type of the scales.
    scales = getattr(layer, "scales", None)
    return scales.dtype if isinstance(scales, Tensor) and scales.is_cuda else torch.float32
