"""HQQ: half-quadratic quantization, quantized after loading, without data."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..errors import UnsupportedConfig
from ..quantizer import LoadRequest, Quantizer, is_instance_of

DEFAULT_GROUP_SIZE = 64


class HQQ(Quantizer):
    """Layers of hqq. transformers' own way (HqqConfig) refuses CPUs and later versions drop it; this uses hqq alone."""

    name: ClassVar[str] = "hqq"
    requires: ClassVar[tuple[str, ...]] = ("hqq",)
    formats: ClassVar[frozenset[str]] = frozenset({"hqq"})
    bits: ClassVar[tuple[int, ...]] = (4, 8, 3, 2)
    group_sizes: ClassVar[bool] = True
    evidence: ClassVar[str] = "tested in CI on the CPU, 4 and 8 bits"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return nothing: the model is loaded as it is and quantized then."""
        if request.bits == 0:
            raise UnsupportedConfig(
                f"{str(request.folder)!r} holds weights of hqq, which cannot be read back safely; "
                "give the unquantized model and quant_method hqq"
            )
        return {}

    def finish(self, model: nn.Module, request: LoadRequest) -> None:
        """Replace every linear layer but the head.

        Raises:
            UnsupportedConfig: a layer's inputs are no multiple of the group size.
        """
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        from ..targets import all_linear

        size = request.args.quant_group_size or DEFAULT_GROUP_SIZE
        names = all_linear(model)
        for name in names:
            check_group_size(name, model.get_submodule(name), size)
        config = BaseQuantizeConfig(nbits=request.bits, group_size=size, axis=1)
        for name in names:
            layer = cast("nn.Linear", model.get_submodule(name))
            device = str(layer.weight.device)
            quantized = HQQLinear(layer, config, compute_dtype=request.dtype, device=device)
            # It was made in training mode.
            model.set_submodule(name, quantized.train(model.training))

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is an HQQLinear."""
        return is_instance_of(module, "hqq.HQQLinear")

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Return the weights that the layer multiplies with."""
        weight: Tensor = cast("Any", layer).dequantize()
        return weight.detach().float().clone()


def check_group_size(name: str, layer: nn.Module, size: int) -> None:
    """Raise UnsupportedConfig if a row of a layer's weights cannot be cut into groups."""
    inputs = int(cast("Any", layer).in_features)
    if inputs % size:
        raise UnsupportedConfig(
            f"quant_group_size is {size}, but layer {name!r} has {inputs} inputs; choose one that divides them"
        )
