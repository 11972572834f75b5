"""Chunks of rows: logits of a chunk by one product, then in place their statistics and gradient, then its products.

The one form that does everything: soft cap, entropies, gradients of head and bias, a vocabulary spread over ranks, any
device. The gradient of a chunk's logits is made once, for rows of scale one: a row's scale goes to its hidden state in
the product for the head, so that the same chunk serves J, which must not carry it.

N rows (tokens), R rows of one chunk, D model, V vocabulary (of this rank).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp

from .cross_entropy import LossTerms, RowKernels, RowStatistics, accumulation_dtype, row_kernels
from .matmul_dtype import matmul_dtype

# Floats of a chunk of logits. Measured on one core of a Xeon, vocabulary 49,152, 1,000 rows, frozen head with soft cap
# and trained head: 1329 and 1732 ms at 2^22, 998 and 1568 at 2^24, 1138 and 1383 at 2^26. The GPU's is a guess, never
# run.
CHUNK_FLOATS = 1 << 24
GPU_CHUNK_FLOATS = 1 << 26
# Floats of a tile of the head that is turned to another type. Measured there, attention of 256 bfloat16 rows: 186 ms at
# 2^22, 190 ms at 2^20, 253 ms for the whole head at once, 326 ms in bfloat16 without turning.
TILE_FLOATS = 1 << 22


@dataclass(frozen=True)
class Projection:
    """Hidden states, the rows of the head that are here, and what is asked of their product."""

    hidden_ND: Tensor
    head_VD: Tensor
    bias_V: Tensor | None
    labels_N: Tensor
    """int64 (N,); rows of `head_VD`, or -1 where the label lies on another rank"""
    terms: LossTerms
    vocabulary: int
    """columns on all ranks"""
    group: ProcessGroup | None


@dataclass(frozen=True)
class Wanted:
    """Which gradients, and whether the entropies."""

    hidden: bool
    head: bool
    bias: bool
    entropy: bool


@dataclass(frozen=True)
class Outcome:
    """Statistics over the vocabulary of all ranks, and the gradients that were wanted."""

    stats: RowStatistics
    hidden_gradient_ND: Tensor | None
    """d value_n / d hidden_n, in the type of the hidden states"""
    head_gradient_VD: Tensor | None
    """sum_n scale_n d value_n / d head, in float32"""
    bias_gradient_V: Tensor | None


def walk_rows(
    projection: Projection,
    wanted: Wanted,
    *,
    scale_N: Tensor | None = None,
    log_sums_N: Tensor | None = None,
    kernels: RowKernels | None = None,
) -> Outcome:
    """Walk the rows in chunks and make what is wanted.

    Args:
        projection: the problem; a collective of its group runs once a chunk.
        wanted: what to make.
        scale_N: (N,), of each row in the gradients of head and bias; not needed without them.
        log_sums_N: (N,), where they are known from an earlier walk; other statistics are then not made again.
        kernels: what walks the rows of a chunk; None takes those of the device.
    """
    hidden_ND, labels_N = projection.hidden_ND, projection.labels_N
    dtype, accumulated = matmul_dtype(hidden_ND.dtype, hidden_ND.device), accumulation_dtype(hidden_ND)
    head_VD = projection.head_VD
    num_rows, vocabulary = len(hidden_ND), len(head_VD)
    chunk_floats = GPU_CHUNK_FLOATS if hidden_ND.is_cuda else CHUNK_FLOATS
    size = max(1, min(num_rows, chunk_floats // vocabulary))
    buffer_RV = head_VD.new_empty(size, vocabulary, dtype=accumulated)
    gradient_buffer_RV = buffer_RV if dtype == accumulated else torch.empty_like(buffer_RV, dtype=dtype)
    j_dtype = hidden_ND.dtype if projection.group is None else accumulated
    hidden_gradient_ND = torch.empty_like(hidden_ND, dtype=j_dtype) if wanted.hidden else None
    head_gradient_VD = None
    if wanted.head:
        # What the first chunk writes over need not be cleared before.
        new = torch.empty_like if num_rows else torch.zeros_like
        head_gradient_VD = new(head_VD, dtype=accumulated, memory_format=torch.contiguous_format)
    bias_gradient_V = head_VD.new_zeros(vocabulary, dtype=accumulated) if wanted.bias else None
    kernels = kernels or row_kernels(buffer_RV)
    pieces: list[RowStatistics] = []
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        hidden_RD, labels_R = hidden_ND[rows].to(dtype), labels_N[rows]
        logits_RV = _logits(hidden_RD, head_VD, projection.bias_V, buffer_RV[: len(hidden_RD)])
        if log_sums_N is None:
            stats = kernels.statistics(logits_RV, labels_R, projection.terms, entropy=wanted.entropy)
            pieces.append(merge_over_group(stats, projection.group))
            log_sums_R = pieces[-1].log_sums_R
        else:
            log_sums_R = log_sums_N[rows]
        if not (wanted.hidden or wanted.head or wanted.bias):
            continue
        gradient_RV = kernels.gradient(
            logits_RV,
            labels_R,
            log_sums_R,
            torch.ones_like(log_sums_R),
            projection.terms,
            vocabulary=projection.vocabulary,
            out_RV=gradient_buffer_RV[: len(hidden_RD)],
        )
        if hidden_gradient_ND is not None:
            _hidden_gradient(gradient_RV, head_VD, hidden_gradient_ND[rows])
        if head_gradient_VD is not None:
            assert scale_N is not None, "gradients of the head need the rows' scale"
            scaled_RD = (hidden_ND[rows] * scale_N[rows, None]).to(dtype)
            _add_product(head_gradient_VD, gradient_RV.T, scaled_RD, first=start == 0)
        if bias_gradient_V is not None:
            assert scale_N is not None, "gradients of the bias need the rows' scale"
            bias_gradient_V += (gradient_RV.T @ scale_N[rows, None].to(dtype)).squeeze(1)
    if hidden_gradient_ND is not None:
        hidden_gradient_ND = sum_over_group(hidden_gradient_ND, projection.group).to(hidden_ND.dtype)
    return Outcome(_joined(pieces, projection), hidden_gradient_ND, head_gradient_VD, bias_gradient_V)


def head_tiles(head_VD: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield the head as `dtype`: whole where that is its type, else tiles of it in one buffer, with their columns."""
    vocabulary, width = head_VD.shape
    if head_VD.dtype == dtype:
        yield slice(0, vocabulary), head_VD
        return
    size = min(vocabulary, max(1, TILE_FLOATS // width))
    buffer_TD = torch.empty_like(head_VD[:size], dtype=dtype)
    for start in range(0, vocabulary, size):
        stop = min(start + size, vocabulary)
        yield slice(start, stop), buffer_TD[: stop - start].copy_(head_VD[start:stop])


def total_vocabulary(head_VD: Tensor, group: ProcessGroup | None) -> int:
    """Return the number of rows of the head on all ranks."""
    if group is None:
        return len(head_VD)
    total = torch.tensor(len(head_VD), device=head_VD.device)
    torch.distributed.all_reduce(total, group=group)
    return int(total)


def sum_over_group(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    """Sum over the ranks, in place."""
    if group is not None:
        torch.distributed.all_reduce(tensor, group=group)
    return tensor


def merge_over_group(stats: RowStatistics, group: ProcessGroup | None) -> RowStatistics:
    """Turn statistics over this rank's columns into those over the columns of all ranks."""
    if group is None:
        return stats
    largest_R = stats.log_sums_R.clone()
    torch.distributed.all_reduce(largest_R, op=ReduceOp.MAX, group=group)
    shares_R = (stats.log_sums_R - largest_R).exp_()
    zeros_R = torch.zeros_like(shares_R)
    sums = torch.stack(
        [
            shares_R,
            stats.label_logits_R,
            zeros_R if stats.logit_sums_R is None else stats.logit_sums_R,
            zeros_R if stats.mean_logits_R is None else stats.mean_logits_R * shares_R,
        ]
    )
    torch.distributed.all_reduce(sums, group=group)
    shares_R, label_logits_R, logit_sums_R, mean_logits_R = sums
    return RowStatistics(
        largest_R + shares_R.log(),
        label_logits_R,
        None if stats.logit_sums_R is None else logit_sums_R,
        None if stats.mean_logits_R is None else mean_logits_R / shares_R,
    )


def _logits(hidden_RD: Tensor, head_VD: Tensor, bias_V: Tensor | None, out_RV: Tensor) -> Tensor:
    for columns, tile_TD in head_tiles(head_VD, hidden_RD.dtype):
        if hidden_RD.dtype == out_RV.dtype:
            torch.mm(hidden_RD, tile_TD.T, out=out_RV[:, columns])
        elif hidden_RD.is_cuda:
            torch.mm(hidden_RD, tile_TD.T, out_dtype=out_RV.dtype, out=out_RV[:, columns])
        else:
            out_RV[:, columns] = hidden_RD @ tile_TD.T
    return out_RV if bias_V is None else out_RV.add_(bias_V)


def _hidden_gradient(gradient_RV: Tensor, head_VD: Tensor, out_RD: Tensor) -> None:
    total_RD = torch.empty_like(out_RD, dtype=accumulation_dtype(gradient_RV))
    for columns, tile_TD in head_tiles(head_VD, gradient_RV.dtype):
        _add_product(total_RD, gradient_RV[:, columns], tile_TD, first=columns.start == 0)
    out_RD.copy_(total_RD)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right, beta=0 if first else 1)
        return
    product = torch.mm(left, right, out_dtype=total.dtype) if left.is_cuda else left @ right
    if first:
        total.copy_(product)
    else:
        total += product


def _joined(pieces: list[RowStatistics], projection: Projection) -> RowStatistics:
    if len(pieces) == 1:
        return pieces[0]
    empty = projection.hidden_ND.new_empty(0, dtype=accumulation_dtype(projection.hidden_ND))
    if not pieces:
        return RowStatistics(empty, empty.clone(), empty.clone(), empty.clone())
    log_sums, label_logits, logit_sums, mean_logits = zip(*pieces, strict=True)
    return RowStatistics(
        torch.cat(log_sums),
        torch.cat(label_logits),
        None if logit_sums[0] is None else torch.cat(logit_sums),
        None if mean_logits[0] is None else torch.cat(mean_logits),
    )
