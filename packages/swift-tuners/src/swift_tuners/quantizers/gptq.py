"""GPTQ: folders that were quantized with data, read by gptqmodel."""

from __future__ import annotations

from typing import ClassVar

from ..quantizer import LoadRequest
from ._gptqmodel import GptqModelQuantizer


class GPTQ(GptqModelQuantizer):
    """Layers of GPTQ."""

    name: ClassVar[str] = "gptq"
    requires: ClassVar[tuple[str, ...]] = ("gptqmodel", "optimum")
    formats: ClassVar[frozenset[str]] = frozenset({"gptq"})
    method: ClassVar[str] = "gptq"
    evidence: ClassVar[str] = "tested on the CPU, in an environment of its own (gptqmodel 7.5.0)"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Choose a kernel that lets gradients through."""
        from transformers import GPTQConfig

        # The kernel that is picked by itself on a CPU (TorchAtenLinear of gptqmodel 7.5.0), also as 'auto_trainable',
        # returns no gradient for its inputs: layers below would train on what the adapters alone pass on.
        # Only the kernel is taken from here; bits and the rest are the folder's.
        return {"quantization_config": GPTQConfig(bits=4, backend="gptq_torch")}
