"""Time the low-rank step against separate modules as PEFT has them: `python kernels/bench/lora.py --threads 1`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Case, can_compile, main
from swift_kernels.lora import LoraLayer, lora_linears
from torch import Tensor

RANK, SCALING = 8, 4.0
# Layers that read one input, by what a user knows: SmolLM2-135M's, and on a GPU Llama 8B's.
SIZES = {
    "cpu": {"q k v": (576, [576, 192, 192]), "gate up": (576, [1536, 1536]), "down": (1536, [576])},
    "cuda": {"q k v": (4096, [4096, 1024, 1024]), "gate up": (4096, [14336, 14336]), "down": (14336, [4096])},
}


def cases(device: torch.device) -> Iterator[Case]:
    """Yield forward and backward of each group of layers, in bfloat16 and float32, without and with dropout."""
    num_tokens = 2048 if device.type == "cpu" else 8192
    for dtype in (torch.bfloat16, torch.float32):
        for name, (width, outs) in SIZES[device.type].items():
            for p in (0.0, 0.05):
                yield _case(f"{name}, dropout {p}", num_tokens, width, outs, p, dtype, device)


def _case(
    name: str, num_tokens: int, width: int, outs: Sequence[int], p: float, dtype: torch.dtype, device: torch.device
) -> Case:
    x = torch.randn(num_tokens, width, device=device).to(dtype).requires_grad_()
    layers = [
        LoraLayer(
            (torch.randn(out, width, device=device) / width**0.5).to(dtype),
            None,
            torch.randn(RANK, width, device=device, requires_grad=True),
            torch.zeros(out, RANK, device=device, requires_grad=True),
            SCALING,
        )
        for out in outs
    ]
    grads = [torch.randn(num_tokens, out, device=device).to(dtype) for out in outs]
    leaves = [x, *(each for layer in layers for each in (layer.a_RI, layer.b_OR))]

    def separate() -> tuple[Tensor, ...]:
        """PEFT's order of operations, its casts included."""
        outputs = []
        for layer in layers:
            y = F.linear(x, layer.weight_OI)
            seen = F.dropout(x.to(layer.a_RI.dtype), p)
            outputs.append((y + F.linear(F.linear(seen, layer.a_RI), layer.b_OR) * layer.scaling).to(dtype))
        return tuple(outputs)

    def base() -> tuple[Tensor, ...]:
        return tuple(F.linear(x, layer.weight_OI) for layer in layers)

    def both_ways(forward: Callable[[], tuple[Tensor, ...]], inputs: list[Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(forward(), inputs, grads)

    contenders = {
        "separate modules": both_ways(separate, leaves),
        "base layers alone": both_ways(base, [x]),
        "lora_linears": both_ways(lambda: lora_linears(x, layers, dropout_p=p), leaves),
        "lora_linears, own masks": both_ways(lambda: lora_linears(x, layers, dropout_p=p, one_mask=False), leaves),
    }
    if can_compile(device):
        contenders["separate, torch.compile"] = both_ways(torch.compile(separate), leaves)
    # Two products of the base weight, four narrow ones a layer: h and y; u, dx, dA, dB make five.
    flops = sum(num_tokens * (4 * width * out + 6 * RANK * (width + out)) for out in outs)
    title = f"{name}: ({num_tokens}, {width}) to {list(outs)}, rank {RANK}, {str(dtype).removeprefix('torch.')}"
    return Case(title, contenders, "separate modules", dtype, flops=flops)


if __name__ == "__main__":
    main(Path(__file__).parent.parent / "tests" / "test_kernels_lora.py", cases)
