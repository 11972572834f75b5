"""Time head and loss in one against torch and liger: `python kernels/bench/linear_cross_entropy.py --threads 1`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Case, main
from swift_kernels import linear_cross_entropy
from torch import Tensor

# Width and vocabulary by what a user knows: SmolLM2-135M's, and on a GPU Llama 8B's.
SIZES = {"cpu": (576, 49152), "cuda": (4096, 128256)}
NUM_ROWS = {"cpu": (200, 1000), "cuda": (2048, 8192)}


def cases(device: torch.device) -> Iterator[Case]:
    """Yield forward and backward in bfloat16 and float32: frozen head, trained head, and evaluation."""
    for dtype in (torch.bfloat16, torch.float32):
        for num_rows in NUM_ROWS[device.type]:
            for kind in ("frozen head", "trained head", "evaluation"):
                yield _case(kind, num_rows, dtype, device)


def _case(kind: str, num_rows: int, dtype: torch.dtype, device: torch.device) -> Case:
    width, vocabulary = SIZES[device.type]
    hidden_ND = torch.randn(num_rows, width, device=device).to(dtype).requires_grad_(kind != "evaluation")
    head_VD = (torch.randn(vocabulary, width, device=device) * 0.05).to(dtype).requires_grad_(kind == "trained head")
    labels_N = torch.randint(vocabulary, (num_rows,), device=device)
    weights_N = torch.rand(num_rows, device=device)
    leaves = [each for each in (hidden_ND, head_VD) if each.requires_grad]

    def torch_loss() -> Tensor:
        logits_NV = F.linear(hidden_ND, head_VD).float()
        return (F.cross_entropy(logits_NV, labels_N, reduction="none") * weights_N).sum()

    def products() -> tuple[Tensor, ...]:
        """Only the matrix products that the gradients need, on logits as they come."""
        with torch.no_grad():
            logits_NV = hidden_ND @ head_VD.T
            found = [logits_NV @ head_VD] if hidden_ND.requires_grad else []
            return (logits_NV, *found, *([logits_NV.T @ hidden_ND] if head_VD.requires_grad else []))

    def both_ways(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), leaves) if leaves else loss()

    contenders: dict[str, Callable[[], object]] = {
        "torch": both_ways(torch_loss),
        "ours": both_ways(lambda: linear_cross_entropy(hidden_ND, head_VD, labels_N, weights_N)),
        "bare products": products,
        "torch.compile": both_ways(torch.compile(torch_loss, dynamic=False)),
    }
    if device.type == "cuda" and importlib.util.find_spec("liger_kernel"):  # its kernels need a GPU
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss  # type: ignore[import-untyped]  # it ships none

        liger = LigerFusedLinearCrossEntropyLoss(reduction="sum")  # it knows no weights
        contenders["liger, no weights"] = both_ways(lambda: liger(head_VD, hidden_ND, labels_N))
    num_products = 1 + len(leaves)
    return Case(
        title=f"{kind}, {num_rows} rows of {width}, vocabulary {vocabulary}, {dtype}",
        contenders=contenders,
        baseline="torch",
        dtype=dtype,
        flops=2.0 * num_products * num_rows * width * vocabulary,
    )


if __name__ == "__main__":
    main(Path(__file__).parents[1] / "tests" / "test_kernels_linear_cross_entropy.py", cases)
