"""A product and its low-rank addition in one Triton kernel: what runs on GPUs.

y = x W^T + bias + s (h B^T), each block of y computed in registers and written once; with separate kernels y is written
and read again for the branch. The same kernel, with other strides, makes dx = dy W + keep (u A): there the mask of
dropout falls on the branch alone, and what other layers have put into dx is added to. `lora` uses it for 16-bit types;
float32 has no matrix unit of its own, and vendors' libraries are the better there.

M rows, N columns of the result, K features that are summed over, R ranks.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Launch(NamedTuple):
    """Sizes of a program's blocks, warps, pipeline stages."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


# Blocks that fit each GPU of `kernels/tests/test_kernels_lora_triton.py` without spills; chosen by that, never timed.
LAUNCHES = {2: Launch(128, 128, 32, 8, 3), 4: Launch(64, 64, 16, 8, 2)}
BLOCK_R = 16  # tl.dot takes no less; most adapters have no more
GROUP = 8  # blocks of rows that go over the columns together, so that W's blocks stay in the cache


def add_low_rank(
    x_MK: Tensor,
    w_NK: Tensor,
    h_MR: Tensor,
    b_NR: Tensor,
    scaling: float,
    *,
    out_MN: Tensor,
    bias_N: Tensor | None = None,
    keep_MN: Tensor | None = None,
    accumulate: bool = False,
) -> Tensor:
    """Write x W^T + bias + scaling keep (h B^T), added up in float32, to `out_MN`.

    Args:
        x_MK: of float32, float16 or bfloat16; all others are of its type. Any strides will do, W's and B's above all.
        w_NK: base weight.
        h_MR: what was projected down.
        b_NR: what projects up.
        scaling: factor of the branch.
        out_MN: where to write; its last stride is 1.
        bias_N: added once, or None.
        keep_MN: mask of ones and zeros on the branch, its last stride 1, or None.
        accumulate: add to what stands in `out_MN`.

    Returns:
        `out_MN`.
    """
    num_rows, num_columns = out_MN.shape
    launch = LAUNCHES[2 if x_MK.element_size() == 2 else 4]
    blocks = triton.cdiv(num_rows, launch.block_m) * triton.cdiv(num_columns, launch.block_n)
    if blocks:
        low_rank_kernel[(blocks,)](
            x_MK,
            w_NK,
            h_MR,
            b_NR,
            out_MN if bias_N is None else bias_N.contiguous(),
            out_MN if keep_MN is None else keep_MN,
            out_MN,
            num_rows,
            num_columns,
            x_MK.shape[1],
            h_MR.shape[1],
            scaling,
            *x_MK.stride(),
            *w_NK.stride(),
            *h_MR.stride(),
            *b_NR.stride(),
            0 if keep_MN is None else keep_MN.stride(0),
            out_MN.stride(0),
            HAS_BIAS=bias_N is not None,
            HAS_KEEP=keep_MN is not None,
            ACCUMULATE=accumulate,
            BLOCK_M=launch.block_m,
            BLOCK_N=launch.block_n,
            BLOCK_K=launch.block_k,
            BLOCK_R=BLOCK_R,
            GROUP=GROUP,
            num_warps=launch.num_warps,
            num_stages=launch.num_stages,
        )
    return out_MN


def add_low_rank_reference(
    x_MK: Tensor, w_NK: Tensor, h_MR: Tensor, b_NR: Tensor, scaling: float, bias_N: Tensor, keep_MN: Tensor
) -> Tensor:
    """Compute what `add_low_rank` computes, in plain torch: what the kernel is tested against."""
    return x_MK @ w_NK.t() + bias_N + scaling * keep_MN * (h_MR @ b_NR.t())


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _add_products(
    total: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    size: int,
    left_row: int,
    left_step: int,
    right_row: int,
    right_step: int,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """Add left right^T; rows and columns are clamped by the caller, what lies beyond `size` counts nothing."""
    steps = tl.arange(0, BLOCK)
    lefts = left + rows.to(tl.int64)[:, None] * left_row
    rights = right + columns.to(tl.int64)[None, :] * right_row
    for start in tl.range(0, size, BLOCK, num_stages=STAGES):
        at = start + steps
        x = tl.load(lefts + at.to(tl.int64)[None, :] * left_step, mask=(at < size)[None, :], other=0.0)
        w = tl.load(rights + at.to(tl.int64)[:, None] * right_step, mask=(at < size)[:, None], other=0.0)
        total = tl.dot(x, w, total, input_precision="ieee")
    return total


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def low_rank_kernel(
    x: tl.tensor,
    w: tl.tensor,
    h: tl.tensor,
    b: tl.tensor,
    bias: tl.tensor,
    keep: tl.tensor,
    out: tl.tensor,
    num_rows: int,
    num_columns: int,
    num_features: int,
    num_ranks: int,
    scaling: float,
    x_row: int,
    x_step: int,
    w_row: int,
    w_step: int,
    h_row: int,
    h_step: int,
    b_row: int,
    b_step: int,
    keep_row: int,
    out_row: int,
    HAS_BIAS: tl.constexpr,
    HAS_KEEP: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_R: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """Compute one block of the result: the branch first, in place of a zero, then the base product on top of it."""
    down, across = tl.cdiv(num_rows, BLOCK_M), tl.cdiv(num_columns, BLOCK_N)
    program = tl.program_id(0)
    first = program // (GROUP * across) * GROUP
    height = tl.minimum(down - first, GROUP)
    block_m = first + program % (GROUP * across) % height
    block_n = program % (GROUP * across) // height
    rows, columns = block_m * BLOCK_M + tl.arange(0, BLOCK_M), block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    # Clamped, not masked: what rows and columns beyond the end compute is not written.
    safe_rows, safe_columns = tl.minimum(rows, num_rows - 1), tl.minimum(columns, num_columns - 1)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    total = _add_products(total, h, b, safe_rows, safe_columns, num_ranks, h_row, h_step, b_row, b_step, BLOCK_R, 1)
    total *= scaling
    if HAS_KEEP:
        kept = tl.load(keep + safe_rows.to(tl.int64)[:, None] * keep_row + safe_columns[None, :])
        total *= kept.to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + safe_columns)[None, :].to(tl.float32)
    outs = out + rows.to(tl.int64)[:, None] * out_row + columns[None, :]
    if ACCUMULATE:
        total += tl.load(outs, mask=inside, other=0.0).to(tl.float32)
    total = _add_products(
        total, x, w, safe_rows, safe_columns, num_features, x_row, x_step, w_row, w_step, BLOCK_K, None
    )
    tl.store(outs, total.to(out.dtype.element_ty), mask=inside)
