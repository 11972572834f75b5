"""Run the low-rank Triton kernel in Triton's interpreter and print how far it is from float64.

The interpreter is chosen when triton is imported, and would change triton for every other test: so this is a program,
which `test_kernels_lora_triton.py` runs in a process of its own. It prints one JSON object: case, then the largest
difference, relative to the largest value.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch  # after the choice
from swift_kernels import keep_masks
from swift_kernels.lora import LoraLayer, apply_plan
from swift_kernels.lora_plan import plan_call
from swift_kernels.lora_triton import add_low_rank, add_low_rank_reference
from swift_kernels.testing import poisoned_memory
from torch import Tensor

SHAPES = [(1, 1, 1, 1), (65, 70, 33, 8), (130, 129, 100, 16), (200, 64, 96, 40)]
TYPES = {"float32": torch.float32, "float16": torch.float16}


def normal(*shape: int, seed: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def difference(ours: Tensor, expected: Tensor) -> float:
    return float((ours.double() - expected).abs().max() / expected.abs().max())


def kernel_case(shape: tuple[int, int, int, int], dtype: torch.dtype, *, transposed: bool, extras: bool) -> float:
    num_rows, num_columns, width, rank = shape
    x, h = normal(num_rows, width, seed=1, dtype=dtype), normal(num_rows, rank, seed=2, dtype=dtype)
    w = normal(num_columns, width, seed=3, dtype=dtype, scale=width**-0.5)
    b = normal(num_columns, rank, seed=4, dtype=dtype, scale=rank**-0.5)
    if transposed:
        w, b = w.t().contiguous().t(), b.t().contiguous().t()
    bias = normal(num_columns, seed=5, dtype=dtype) if extras else torch.zeros(num_columns, dtype=dtype)
    keep = (normal(num_rows, num_columns, seed=6, dtype=torch.float32) > 0).to(dtype) if extras else None
    before = normal(num_rows, num_columns, seed=7, dtype=dtype) if extras else None
    with poisoned_memory():
        out = torch.empty(num_rows, num_columns, dtype=dtype) if before is None else before.clone()
        add_low_rank(
            x, w, h, b, 1.5, out_MN=out, bias_N=bias if extras else None, keep_MN=keep, accumulate=before is not None
        )
    ones = torch.ones(num_rows, num_columns, dtype=torch.float64)
    mask = ones if keep is None else keep.double()
    expected = add_low_rank_reference(x.double(), w.double(), h.double(), b.double(), 1.5, bias.double(), mask)
    return difference(out, expected if before is None else expected + before.double())


def step_case(p: float, *, one_mask: bool) -> float:
    """Return the largest difference of outputs and gradients between the step with the kernel and the step without."""
    x = normal(70, 40, seed=1, dtype=torch.float32).requires_grad_()
    layers = [
        LoraLayer(
            normal(out, 40, seed=out, dtype=torch.float32, scale=0.2),
            normal(out, seed=out + 1, dtype=torch.float32) if out == 24 else None,
            normal(rank, 40, seed=out + 2, dtype=torch.float32, scale=0.2).requires_grad_(),
            normal(out, rank, seed=out + 3, dtype=torch.float32).requires_grad_(),
            2.0,
        )
        for out, rank in ((24, 4), (48, 8))
    ]
    leaves = [x, *(each for layer in layers for each in (layer.a_RI, layer.b_OR))]
    found = []
    for fused in (True, False):
        plan = plan_call(x, layers, p=p, seed=3, one_mask=one_mask, fused=fused)
        with poisoned_memory():
            outputs = apply_plan(plan, x, layers)
            found.append([*outputs, *torch.autograd.grad(torch.cat(outputs, dim=1).square().sum(), leaves)])
    return max(difference(ours, theirs.double()) for ours, theirs in zip(*found, strict=True))


def main() -> None:
    cases = {
        f"{name} {shape}{' transposed' * transposed}{' extras' * extras}": kernel_case(
            shape, dtype, transposed=transposed, extras=extras
        )
        for name, dtype in TYPES.items()
        for shape in SHAPES
        for transposed in (False, True)
        for extras in (False, True)
    }
    for p in (0.0, 0.3):
        for one_mask in (True, False):
            cases[f"step p={p} one_mask={one_mask}"] = step_case(p, one_mask=one_mask)
    whole = keep_masks.keep_whole(5, 3000, 1000, 0.5, dtype=torch.float32, device=torch.device("cpu"))
    pieces = keep_masks.keep_pieces(5, slice(0, 3000), 1000, 0.5, dtype=torch.float32, device=torch.device("cpu"))
    cases["whole mask"] = float((torch.cat([each for _, each in pieces]) - whole).abs().max())
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
