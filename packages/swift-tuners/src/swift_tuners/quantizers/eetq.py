"""EETQ: 8 bits with kernels for NVIDIA GPUs, quantized while loading."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..quantizer import LoadRequest, Quantizer, is_instance_of


class EETQ(Quantizer):
    """Layers of EETQ. There is no build for CPUs."""

    name: ClassVar[str] = "eetq"
    requires: ClassVar[tuple[str, ...]] = ("kernels",)
    formats: ClassVar[frozenset[str]] = frozenset({"eetq"})
    bits: ClassVar[tuple[int, ...]] = (8,)
    evidence: ClassVar[str] = "written, never run: it has no CPU build; refused without a GPU (tested in CI)"

    def check_installed(self) -> None:
        """Ask for the GPU first: without one, no package helps.

        Raises:
            UnsupportedConfig: there is no NVIDIA GPU.
            MissingDependency: the package that fetches the kernels is not there.
        """
        import torch

        if not torch.cuda.is_available():
            raise UnsupportedConfig(
                "quantizer 'eetq' computes on NVIDIA GPUs only, and this machine has none; "
                "choose bnb, hqq or torchao with quant_bits 8"
            )
        super().check_installed()

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return an EetqConfig, or nothing for a folder that holds one."""
        if request.bits == 0:
            return {}
        from transformers import EetqConfig

        return {"quantization_config": EetqConfig("int8")}

    def finish(self, model: nn.Module, request: LoadRequest) -> None:
        """Write the sizes on the layers, which those of transformers do not know; adapters ask for them."""
        for module in model.modules():
            if self.is_quantized_layer(module) and not hasattr(module, "in_features"):
                own = cast("Any", module)
                own.in_features, own.out_features = own.weight.shape

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is an EetqLinear, of eetq or of transformers."""
        return is_instance_of(module, "eetq.EetqLinear", "transformers.EetqLinear")

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Multiply with the identity: the weights lie in an order of the kernel's own."""
        import torch

        own = cast("Any", layer)
        with torch.no_grad():
            rows = torch.eye(own.in_features, dtype=torch.float16, device=own.weight.device)
            product: Tensor = layer(rows)
            if own.bias is not None:
                product = product - own.bias
        return product.t().float().contiguous()
