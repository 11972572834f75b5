"""torchao: weights as tensors of a quantized type, inside torch's own linear layers."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..quantizer import LoadRequest, Quantizer

DEFAULT_GROUP_SIZE = 32


class TorchAO(Quantizer):
    """Weight-only integers of torchao; 4-bit weights are stored in 8 bits, as only that runs and trains anywhere."""

    name: ClassVar[str] = "torchao"
    requires: ClassVar[tuple[str, ...]] = ("torchao",)
    formats: ClassVar[frozenset[str]] = frozenset({"torchao"})
    bits: ClassVar[tuple[int, ...]] = (8, 4)
    group_sizes: ClassVar[bool] = True
    can_save: ClassVar[bool] = True
    evidence: ClassVar[str] = "tested in CI on the CPU, 4 and 8 bits"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Return a TorchAoConfig, or nothing for a folder that holds one."""
        if request.bits == 0:
            return {}
        import torch
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
        from torchao.quantization.granularity import PerGroup
        from transformers import TorchAoConfig

        if request.bits == 8:
            return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}
        size = request.args.quant_group_size or DEFAULT_GROUP_SIZE
        # torch makes its small types at run time, unseen by type checkers.
        int4: torch.dtype = vars(torch)["int4"]
        four = IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerGroup(size))
        return {"quantization_config": TorchAoConfig(four)}

    def is_quantized_layer(self, module: nn.Module) -> bool:
        """Say whether this is a linear layer whose weight is a tensor of torchao's."""
        weight = getattr(module, "weight", None)
        return isinstance(module, nn.Linear) and type(weight).__module__.partition(".")[0] == "torchao"

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Return the weights that the layer multiplies with."""
        weight: Tensor = cast("Any", layer).weight.dequantize()
        return weight.detach().float().clone()
