"""Log-probabilities of chosen tokens, and the cross entropy that weighs each of them.

Only a few numbers per row are needed from a row of logits: the chosen logit, the log of the sum of exponentials (and
for label smoothing the sum), and in the backward pass the row's softmax. So rows are walked in blocks that stay in the
processor's cache, in float32, and no float32 copy of the whole matrix is ever made. On a GPU Triton kernels walk them
(`cross_entropy_triton`).

N rows (tokens), R rows of one chunk, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Floats of one block. Measured on a two-core Xeon (2 MiB of second-level cache a core), 64 rows of 49,152, maximum,
# exponential and sum: 1.6 ms at 2^19, 2.1 ms when all rows are one block, beside 0.9 ms for a plain copy.
BLOCK_FLOATS = 1 << 19


@dataclass(frozen=True)
class LossTerms:
    """What a loss adds to the plain log-probability.

    With z_v = soft_cap * tanh(x_v / soft_cap) (or x_v) and L = log sum_v exp z_v, a row is worth

        (1 - label_smoothing) (z_label - L) + label_smoothing (mean_v z_v - L) - z_loss L^2

    Source: label smoothing, arXiv 1512.00567, section 7; z-loss, PaLM, arXiv 2204.02311, section 5; soft cap, Gemma 2,
    arXiv 2408.00118, section 2.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing!r}; expected at least 0 and less than 1")
        if not 0 <= self.z_loss < float("inf"):
            raise ValueError(f"z_loss={self.z_loss!r}; expected a finite number of at least 0 (PaLM's is 1e-4)")
        if self.soft_cap is not None and not 0 < self.soft_cap < float("inf"):
            raise ValueError(f"soft_cap={self.soft_cap!r}; expected a positive number, or None for no cap")

    def values(self, stats: RowStatistics, vocabulary: int) -> Tensor:
        """Return what each row is worth, (R,); `vocabulary` is the number of all columns, on every rank."""
        # Rounding may put a sure label's logit above the log of the sum; a log-probability above 0 has no meaning.
        values_R = (stats.label_logits_R - stats.log_sums_R).clamp_max_(0)
        if self.label_smoothing:
            assert stats.logit_sums_R is not None, "label smoothing needs the sum of the logits"
            uniform_R = stats.logit_sums_R / vocabulary - stats.log_sums_R
            values_R = torch.lerp(values_R, uniform_R, self.label_smoothing)
        if self.z_loss:
            values_R = values_R - self.z_loss * stats.log_sums_R.square()
        return values_R

    def softmax_factor(self, log_sums_R: Tensor) -> Tensor:
        """Return the factor of the softmax in the gradient of a row's value, (R,): 1 + 2 z_loss L."""
        return 1 + 2 * self.z_loss * log_sums_R


class RowStatistics(NamedTuple):
    """What is needed of each row of (capped) logits z; all (R,), float32, or float64 for float64 logits."""

    log_sums_R: Tensor
    """log sum_v exp z_v"""
    label_logits_R: Tensor
    """z of the label; 0 where the label is -1"""
    logit_sums_R: Tensor | None
    """sum_v z_v; only for label smoothing"""
    mean_logits_R: Tensor | None
    """sum_v softmax_v z_v; only for entropies, which are log_sums - mean_logits"""


def token_logps(
    logits_NV: Tensor,
    labels_N: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
) -> Tensor:
    """Return the log-probability, in nats, of each row's label.

    logp_n = z_n[label_n] - L_n with L_n = log sum_v exp z_n[v]. With label smoothing or z-loss the result is minus the
    row's loss instead: (1 - label_smoothing) logp_n + label_smoothing mean_v logp_nv - z_loss L_n^2.

    Args:
        logits_NV: (N, V) of any floating type.
        labels_N: int64 (N,), each in [0, V).
        label_smoothing: part of the target that is spread evenly over the vocabulary, in [0, 1).
        z_loss: factor of L^2, which keeps the logits from drifting.
        soft_cap: z = soft_cap tanh(logits / soft_cap); None leaves the logits as they are.

    Returns:
        float32 (N,) (float64 for float64 logits), differentiable with respect to the logits.

    Raises:
        ValueError: the shapes do not fit, a label is outside the vocabulary, or a term is out of its range.
    """
    terms = LossTerms(label_smoothing, z_loss, soft_cap)
    _check_shapes(logits_NV, labels_N)
    logps_N: Tensor = _TokenLogps.apply(logits_NV, labels_N, terms)
    return logps_N


def cross_entropy(
    logits_NV: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
) -> Tensor:
    """Return the weighted sum of cross entropies, in nats: -sum_n weights_n logp_n.

    Rows of weight zero are left out: neither their softmax nor their gradient is computed.

    Args:
        logits_NV: (N, V) of any floating type.
        labels_N: int64 (N,); ignored where the weight is zero.
        weights_N: float (N,); one weight carries loss mask, loss scale and advantage alike.
        label_smoothing: as for `token_logps`.
        z_loss: as for `token_logps`.
        soft_cap: as for `token_logps`.

    Returns:
        float32 scalar, differentiable with respect to the logits.

    Raises:
        ValueError: as `token_logps`, for the rows that count.
    """
    counted = weights_N.nonzero().squeeze(1)
    logps_K = token_logps(
        logits_NV.index_select(0, counted),
        labels_N.index_select(0, counted),
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        soft_cap=soft_cap,
    )
    return -(weights_N.index_select(0, counted).to(logps_K.dtype) * logps_K).sum()


def token_logps_reference(
    logits_NV: Tensor,
    labels_N: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    soft_cap: float | None = None,
) -> Tensor:
    """Compute what `token_logps` computes, in plain torch: what the fast paths are tested against."""
    z_NV = logits_NV.to(accumulation_dtype(logits_NV))
    if soft_cap is not None:
        z_NV = soft_cap * torch.tanh(z_NV / soft_cap)
    logps_NV = torch.log_softmax(z_NV, dim=-1)
    logps_N = logps_NV.gather(1, labels_N[:, None]).squeeze(1)
    smoothed_N = (1 - label_smoothing) * logps_N + label_smoothing * logps_NV.mean(-1)
    return smoothed_N - z_loss * torch.logsumexp(z_NV, dim=-1).square()


def row_statistics(logits_RV: Tensor, labels_R: Tensor, terms: LossTerms, *, entropy: bool = False) -> RowStatistics:
    """Read each row of logits once for what its value needs; a label of -1 lies on another rank."""
    dtype = accumulation_dtype(logits_RV)
    # Gathered from the logits themselves, before anything is rounded to another type.
    label_logits_R = logits_RV.gather(1, labels_R.clamp_min(0)[:, None]).squeeze(1).to(dtype)
    if terms.soft_cap is not None:
        label_logits_R = label_logits_R.div_(terms.soft_cap).tanh_().mul_(terms.soft_cap)
    log_sums_R = label_logits_R.new_empty(len(logits_RV))
    logit_sums_R = torch.empty_like(log_sums_R) if terms.label_smoothing else None
    mean_logits_R = torch.empty_like(log_sums_R) if entropy else None
    for rows in _blocks(logits_RV):
        z_BV = logits_RV[rows].to(dtype, copy=True)
        if terms.soft_cap is not None:
            z_BV.div_(terms.soft_cap).tanh_().mul_(terms.soft_cap)
        if logit_sums_R is not None:
            torch.sum(z_BV, dim=-1, out=logit_sums_R[rows])
        maxima_B1 = z_BV.amax(-1, keepdim=True)
        exps_BV = torch.sub(z_BV, maxima_B1, out=None if entropy else z_BV).exp_()
        sums_B = exps_BV.sum(-1)
        if mean_logits_R is not None:
            torch.linalg.vecdot(exps_BV, z_BV, out=mean_logits_R[rows])
            mean_logits_R[rows] /= sums_B
        torch.add(sums_B.log(), maxima_B1.squeeze(1), out=log_sums_R[rows])
    return RowStatistics(log_sums_R, label_logits_R.masked_fill_(labels_R < 0, 0), logit_sums_R, mean_logits_R)


def row_gradient(
    logits_RV: Tensor,
    labels_R: Tensor,
    log_sums_R: Tensor,
    scale_R: Tensor,
    terms: LossTerms,
    *,
    vocabulary: int,
    out_RV: Tensor,
) -> Tensor:
    """Write the gradient of sum_r scale_r value_r with respect to the logits into `out_RV`, which may be the logits.

    d value / d z_v = (1 - label_smoothing) [v = label] + label_smoothing / V - (1 + 2 z_loss L) exp(z_v - L), and
    d z_v / d x_v = 1 - (z_v / soft_cap)^2. The log-sums may be those over more columns than are here.
    """
    dtype = accumulation_dtype(logits_RV)
    softmax_scale_R = scale_R.to(dtype) * terms.softmax_factor(log_sums_R)
    label_scale_R1 = ((1 - terms.label_smoothing) * scale_R.to(dtype)).masked_fill_(labels_R < 0, 0)[:, None]
    columns_R1 = labels_R.clamp_min(0)[:, None]
    for rows in _blocks(logits_RV):
        work_BV = out_RV[rows] if out_RV.dtype == dtype else torch.empty_like(logits_RV[rows], dtype=dtype)
        slope_BV = None
        if terms.soft_cap is None:
            torch.sub(logits_RV[rows], log_sums_R[rows, None], out=work_BV)
        else:
            torch.div(logits_RV[rows], terms.soft_cap, out=work_BV).tanh_()
            slope_BV = 1 - work_BV.square()
            work_BV.mul_(terms.soft_cap).sub_(log_sums_R[rows, None])
        work_BV.exp_().mul_(softmax_scale_R[rows, None].neg())
        if terms.label_smoothing:
            work_BV.add_(scale_R[rows, None].to(dtype) * (terms.label_smoothing / vocabulary))
        work_BV.scatter_add_(1, columns_R1[rows], label_scale_R1[rows])
        if slope_BV is not None:
            work_BV.mul_(slope_BV)
        if work_BV.data_ptr() != out_RV[rows].data_ptr():
            out_RV[rows] = work_BV
    return out_RV


def row_kernels(logits_RV: Tensor) -> RowKernels:
    """Return the kernels for these logits: Triton's on a GPU, torch operations elsewhere and for float64."""
    if not logits_RV.is_cuda or logits_RV.dtype == torch.float64:
        return TORCH
    try:
        from .cross_entropy_triton import TRITON
    except ImportError as error:
        raise ImportError("triton is needed for cross entropy on a GPU; pip install 'swift-kernels[triton]'") from error
    return TRITON


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return float64 for float64 (as gradcheck uses it), else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class RowKernels(NamedTuple):
    """Two functions that walk rows of logits, with the signatures of `row_statistics` and `row_gradient`."""

    statistics: Callable[..., RowStatistics]
    gradient: Callable[..., Tensor]


TORCH = RowKernels(row_statistics, row_gradient)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits_NV: Tensor, labels_N: Tensor, terms: LossTerms) -> Tensor:
        stats = row_kernels(logits_NV).statistics(logits_NV, labels_N, terms)
        ctx.save_for_backward(logits_NV, labels_N, stats.log_sums_R)
        ctx.terms = terms  # type: ignore[attr-defined]  # for the backward pass
        return terms.values(stats, logits_NV.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_N,) = grad_outputs
        logits_NV, labels_N, log_sums_N = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        grad_NV = row_kernels(logits_NV).gradient(
            logits_NV,
            labels_N,
            log_sums_N,
            grad_N,
            ctx.terms,  # type: ignore[attr-defined]  # set in forward
            vocabulary=logits_NV.shape[1],
            out_RV=torch.empty_like(logits_NV, memory_format=torch.contiguous_format),
        )
        return grad_NV, None, None


def _blocks(logits_RV: Tensor) -> list[slice]:
    num_rows, vocabulary = logits_RV.shape
    size = max(1, BLOCK_FLOATS // vocabulary)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def _check_shapes(logits_NV: Tensor, labels_N: Tensor) -> None:
    if logits_NV.ndim != 2 or labels_N.shape != logits_NV.shape[:1]:
        raise ValueError(
            f"logits {tuple(logits_NV.shape)} and labels {tuple(labels_N.shape)} do not fit; expected (N, V) and (N,)"
        )
    check_labels(labels_N, logits_NV.shape[1])


def check_labels(labels_N: Tensor, vocabulary: int) -> None:
    """Raise ValueError if a label is outside the vocabulary."""
    if not labels_N.numel():
        return
    lowest, highest = (int(each) for each in torch.aminmax(labels_N))
    if not 0 <= lowest <= highest < vocabulary:
        raise ValueError(
            f"labels reach from {lowest} to {highest}; expected 0 to {vocabulary - 1}; "
            "leave out rows that have no label, or give them weight zero"
        )
