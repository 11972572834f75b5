"""AWQ: folders that were quantized with data, read by gptqmodel."""

from __future__ import annotations

from typing import ClassVar

from ..quantizer import LoadRequest
from ._gptqmodel import GptqModelQuantizer


class AWQ(GptqModelQuantizer):
    """Layers of AWQ."""

    name: ClassVar[str] = "awq"
    formats: ClassVar[frozenset[str]] = frozenset({"awq"})
    method: ClassVar[str] = "awq"
    evidence: ClassVar[str] = "tested on the CPU, in an environment of its own (gptqmodel 7.5.0)"

    def load_options(self, request: LoadRequest) -> dict[str, object]:
        """Choose a kernel that lets gradients through."""
        from transformers import AwqConfig
        from transformers.utils.quantization_config import AwqBackend

        # The kernel that is picked by itself on a CPU (TorchAtenAwqLinear of gptqmodel 7.5.0) returns no gradient for
        # its inputs: layers below would train on what the adapters alone pass on.
        # Only the kernel is taken from here; bits and the rest are the folder's.
        return {"quantization_config": AwqConfig(bits=4, backend=AwqBackend.TORCH_AWQ)}
