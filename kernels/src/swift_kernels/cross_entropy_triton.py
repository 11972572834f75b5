"""The rows of cross entropy by Triton: one kernel reads a row's statistics, one writes its gradient.

The first walks a row once, in blocks, rescaling its sum whenever a larger maximum turns up. The second knows the log of
the sum beforehand, so each element is on its own and the gradient may be written over the logits.

R rows, V vocabulary.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .cross_entropy import LossTerms, RowKernels, RowStatistics

BLOCK = 4096
NUM_WARPS = 8


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _capped(x: tl.tensor, soft_cap: float, CAPPED: tl.constexpr) -> tl.tensor:
    if CAPPED:
        # tanh u = 2 sigmoid(2 u) - 1; where u is small its precision is only absolute, 1e-7 of the cap.
        x = soft_cap * (2.0 * tl.sigmoid(2.0 * x / soft_cap) - 1.0)
    return x


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def row_statistics_kernel(
    logits: tl.tensor,
    labels: tl.tensor,
    log_sums: tl.tensor,
    label_logits: tl.tensor,
    logit_sums: tl.tensor,
    mean_logits: tl.tensor,
    row_stride: int,
    vocabulary: int,
    soft_cap: float,
    CAPPED: tl.constexpr,
    WITH_SUM: tl.constexpr,
    WITH_MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Read a row; the program's index is the row."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_stride
    maximum = float("-inf")
    sum_exp = 0.0
    sum_z = 0.0
    sum_exp_z = 0.0
    for start in range(0, vocabulary, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < vocabulary
        x = tl.load(logits + columns, mask=inside, other=0.0).to(tl.float32)
        z = _capped(x, soft_cap, CAPPED)
        new_maximum = tl.maximum(maximum, tl.max(tl.where(inside, z, float("-inf")), axis=0))
        # A block of nothing but -inf has no maximum to subtract.
        finite = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
        exps = tl.where(inside, tl.exp(z - finite), 0.0)
        shrink = tl.exp(maximum - finite)
        sum_exp = sum_exp * shrink + tl.sum(exps, axis=0)
        if WITH_SUM:
            sum_z += tl.sum(tl.where(inside, z, 0.0), axis=0)
        if WITH_MEAN:
            sum_exp_z = sum_exp_z * shrink + tl.sum(exps * z, axis=0)
        maximum = new_maximum
    tl.store(log_sums + row, maximum + tl.log(sum_exp))
    label = tl.load(labels + row)
    here = label >= 0
    x_label = tl.load(logits + tl.where(here, label, 0)).to(tl.float32)
    tl.store(label_logits + row, tl.where(here, _capped(x_label, soft_cap, CAPPED), 0.0))
    if WITH_SUM:
        tl.store(logit_sums + row, sum_z)
    if WITH_MEAN:
        tl.store(mean_logits + row, sum_exp_z / sum_exp)


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def row_gradient_kernel(
    logits: tl.tensor,
    labels: tl.tensor,
    log_sums: tl.tensor,
    scales: tl.tensor,
    out: tl.tensor,
    row_stride: int,
    out_stride: int,
    vocabulary: int,
    soft_cap: float,
    z_loss: float,
    label_share: float,
    uniform_share: float,
    CAPPED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write a block of a row's gradient; the program's indices are row and block."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < vocabulary
    scale = tl.load(scales + row).to(tl.float32)
    log_sum = tl.load(log_sums + row)
    label = tl.load(labels + row)
    x = tl.load(logits + row * row_stride + columns, mask=inside, other=0.0).to(tl.float32)
    z = _capped(x, soft_cap, CAPPED)
    gradient = uniform_share - (1.0 + 2.0 * z_loss * log_sum) * tl.exp(z - log_sum)
    gradient += tl.where(columns == label, label_share, 0.0)
    if CAPPED:
        gradient *= 1.0 - (z / soft_cap) * (z / soft_cap)
    tl.store(out + row * out_stride + columns, (gradient * scale).to(out.dtype.element_ty), mask=inside)


def row_statistics_triton(
    logits_RV: Tensor, labels_R: Tensor, terms: LossTerms, *, entropy: bool = False
) -> RowStatistics:
    """Compute what `cross_entropy.row_statistics` computes."""
    logits_RV = _with_dense_rows(logits_RV)
    num_rows, vocabulary = logits_RV.shape
    log_sums_R = torch.empty(num_rows, dtype=torch.float32, device=logits_RV.device)
    label_logits_R = torch.empty_like(log_sums_R)
    logit_sums_R = torch.empty_like(log_sums_R) if terms.label_smoothing else None
    mean_logits_R = torch.empty_like(log_sums_R) if entropy else None
    if num_rows:
        row_statistics_kernel[(num_rows,)](
            logits_RV,
            labels_R.contiguous(),
            log_sums_R,
            label_logits_R,
            log_sums_R if logit_sums_R is None else logit_sums_R,
            log_sums_R if mean_logits_R is None else mean_logits_R,
            logits_RV.stride(0),
            vocabulary,
            terms.soft_cap or 1.0,
            CAPPED=terms.soft_cap is not None,
            WITH_SUM=logit_sums_R is not None,
            WITH_MEAN=entropy,
            BLOCK=_block(vocabulary),
            num_warps=NUM_WARPS,
        )
    return RowStatistics(log_sums_R, label_logits_R, logit_sums_R, mean_logits_R)


def row_gradient_triton(
    logits_RV: Tensor,
    labels_R: Tensor,
    log_sums_R: Tensor,
    scale_R: Tensor,
    terms: LossTerms,
    *,
    vocabulary: int,
    out_RV: Tensor,
) -> Tensor:
    """Compute what `cross_entropy.row_gradient` computes."""
    logits_RV = _with_dense_rows(logits_RV)
    if out_RV.stride(1) != 1:
        raise ValueError(f"out has strides {out_RV.stride()}; expected rows without gaps, (..., 1)")
    num_rows, num_columns = logits_RV.shape
    block = _block(num_columns)
    if num_rows:
        row_gradient_kernel[(num_rows, triton.cdiv(num_columns, block))](
            logits_RV,
            labels_R.contiguous(),
            log_sums_R.contiguous(),
            scale_R.contiguous(),
            out_RV,
            logits_RV.stride(0),
            out_RV.stride(0),
            num_columns,
            terms.soft_cap or 1.0,
            terms.z_loss,
            1 - terms.label_smoothing,
            terms.label_smoothing / vocabulary,
            CAPPED=terms.soft_cap is not None,
            BLOCK=block,
            num_warps=NUM_WARPS,
        )
    return out_RV


def row_statistics_reference(
    logits_RV: Tensor, labels_R: Tensor, terms: LossTerms, *, entropy: bool = False
) -> RowStatistics:
    """Compute what the first kernel computes, in plain torch."""
    z_RV = logits_RV if terms.soft_cap is None else terms.soft_cap * torch.tanh(logits_RV / terms.soft_cap)
    label_logits_R = z_RV.gather(1, labels_R.clamp_min(0)[:, None]).squeeze(1)
    return RowStatistics(
        torch.logsumexp(z_RV, dim=-1),
        torch.where(labels_R < 0, 0, label_logits_R),
        z_RV.sum(-1) if terms.label_smoothing else None,
        (torch.softmax(z_RV, dim=-1) * z_RV).sum(-1) if entropy else None,
    )


def row_gradient_reference(
    logits_RV: Tensor, labels_R: Tensor, log_sums_R: Tensor, scale_R: Tensor, terms: LossTerms, *, vocabulary: int
) -> Tensor:
    """Compute what the second kernel computes, in plain torch."""
    z_RV = logits_RV if terms.soft_cap is None else terms.soft_cap * torch.tanh(logits_RV / terms.soft_cap)
    softmax_RV = torch.exp(z_RV - log_sums_R[:, None])
    gradient_RV = terms.label_smoothing / vocabulary - (1 + 2 * terms.z_loss * log_sums_R[:, None]) * softmax_RV
    here = torch.arange(logits_RV.shape[1], device=labels_R.device) == labels_R[:, None]
    gradient_RV = gradient_RV + (1 - terms.label_smoothing) * here
    if terms.soft_cap is not None:
        gradient_RV = gradient_RV * (1 - (z_RV / terms.soft_cap).square())
    return scale_R[:, None] * gradient_RV


def _block(vocabulary: int) -> int:
    return min(BLOCK, triton.next_power_of_2(vocabulary))


def _with_dense_rows(logits_RV: Tensor) -> Tensor:
    return logits_RV if logits_RV.stride(1) == 1 else logits_RV.contiguous()


TRITON = RowKernels(row_statistics_triton, row_gradient_triton)
