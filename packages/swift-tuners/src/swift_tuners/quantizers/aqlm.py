"""AQLM: folders whose weights are sums of codebook vectors."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..quantizer import LoadRequest, Quantizer, is_instance_of


class AQLM(Quantizer):
    """Layers of aqlm."""

    name: ClassVar[str] = "aqlm"
    requires: ClassVar[tuple[str, ...]] = ("aqlm",)
    formats: ClassVar[frozenset[str]] = frozenset({"aqlm"})
    bits: ClassVar[tuple[int, ...]] = ()
    evidence: ClassVar[str] = "tested in CI on the CPU, with codebooks of 10 bits"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return nothing: the folder says it all."""
        return {}

    def adapt_config(self, settings: dict[str, object]) -> None:
        """Name the layers that are not quantized as transformers compares them.

        Folders name weights, such as lm_head.weight; transformers 5.19 compares names of modules, quantizes the head
        all the same and fills it with random numbers. To be removed when `replace_with_aqlm_linear` compares
        names of weights.
        """
        names = settings.get("linear_weights_not_to_quantize")
        if isinstance(names, list):
            settings["linear_weights_not_to_quantize"] = [str(name).removesuffix(".weight") for name in names]

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is a QuantizedLinear of aqlm."""
        return is_instance_of(module, "aqlm.QuantizedLinear")

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Multiply with the identity: the order of the codes depends on the kernel."""
        import torch

        own = cast("Any", layer)
        with torch.no_grad():
            rows = torch.eye(own.in_features, dtype=own.scales.dtype, device=own.scales.device)
            product: Tensor = layer(rows)
            if own.bias is not None:
                product = product - own.bias
        return product.t().float().contiguous()

    def settle(self, layer: nn.Module) -> None:
        """Take away the second name that PEFT gives to the codes, and that would stay after the adapter is gone."""
        if "qweight" in layer._parameters:
            del layer.qweight
