"""Time cross entropy of given logits against torch and liger: `python kernels/bench/cross_entropy.py --threads 1`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Case, main
from swift_kernels import token_logps
from torch import Tensor

# Rows and vocabulary by what a user knows: SmolLM2-135M's, and on a GPU Llama 8B's.
SIZES = {"cpu": (400, 49152), "cuda": (4096, 128256)}


def cases(device: torch.device) -> Iterator[Case]:
    """Yield forward and backward in bfloat16 and float32, without and with label smoothing."""
    for dtype in (torch.bfloat16, torch.float32):
        for smoothing in (0.0, 0.1):
            yield _case(smoothing, dtype, device)


def _case(smoothing: float, dtype: torch.dtype, device: torch.device) -> Case:
    num_rows, vocabulary = SIZES[device.type]
    logits_NV = torch.randn(num_rows, vocabulary, device=device).to(dtype).requires_grad_()
    labels_N = torch.randint(vocabulary, (num_rows,), device=device)
    weights_N = torch.rand(num_rows, device=device)

    def torch_loss() -> Tensor:
        losses_N = F.cross_entropy(logits_NV.float(), labels_N, reduction="none", label_smoothing=smoothing)
        return (losses_N * weights_N).sum()

    def ours() -> Tensor:
        return -(token_logps(logits_NV, labels_N, label_smoothing=smoothing) * weights_N).sum()

    def both_ways(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), logits_NV)

    contenders: dict[str, Callable[[], object]] = {
        "torch": both_ways(torch_loss),
        "ours": both_ways(ours),
        "torch.compile": both_ways(torch.compile(torch_loss, dynamic=False)),
    }
    if device.type == "cuda" and importlib.util.find_spec("liger_kernel"):  # its kernels need a GPU
        from liger_kernel.transformers import LigerCrossEntropyLoss  # type: ignore[import-untyped]  # it ships none

        liger = LigerCrossEntropyLoss(reduction="sum", label_smoothing=smoothing)  # it knows no weights
        # It writes the gradient over the logits, so it is given a copy.
        contenders["liger, no weights"] = both_ways(lambda: liger(logits_NV.clone(), labels_N))
    return Case(
        title=f"{num_rows} rows, vocabulary {vocabulary}, label smoothing {smoothing}, {dtype}",
        contenders=contenders,
        baseline="torch",
        dtype=dtype,
        # The logits are read for the statistics and for the gradient, which is written.
        num_bytes=3.0 * logits_NV.numel() * logits_NV.element_size(),
    )


if __name__ == "__main__":
    main(Path(__file__).parents[1] / "tests" / "test_kernels_cross_entropy.py", cases)
