"""A frozen head on a processor is attention: hidden states are queries, the head is both keys and values.

softmax(hidden head^T) head is the whole of what a log-probability's gradient needs beside the label's row of the head.
It is what attention computes, in tiles that stay in the cache, never a row of logits in memory, with the log of the sum
of exponentials as a second result. So torch's own fused attention does both products and the softmax. Measured on one
core of a Xeon, 1024 rows of 576, vocabulary 49,152, float32: 693 ms, beside 795 ms for the two bare products.

The softmax's expectation also gives the mean logit (hidden . expectation), and the head's column sums give the sum of
the logits; soft cap alone does not fit.

N rows (tokens), D model, V vocabulary (of this rank), S splits of a tile of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .cross_entropy import RowStatistics, accumulation_dtype
from .linear_cross_entropy_rows import (
    Outcome,
    Projection,
    Wanted,
    head_tiles,
    merge_over_group,
    sum_over_group,
)
from .matmul_dtype import matmul_dtype


def attention_fits(projection: Projection, wanted: Wanted) -> bool:
    """Return whether `attend` serves the problem, and is the faster way."""
    if projection.hidden_ND.device.type != "cpu" or projection.terms.soft_cap is not None:
        return False
    if wanted.head or wanted.bias or not len(projection.hidden_ND):
        return False
    dtype = matmul_dtype(projection.hidden_ND.dtype, projection.hidden_ND.device)
    if dtype == accumulation_dtype(projection.hidden_ND):
        # Without J the second product of attention is for nothing. The mean logit leaves out the bias.
        return wanted.hidden and not (wanted.entropy and projection.bias_V is not None)
    # Attention keeps its logits in float32, where a product in 16 bits rounds them to three digits.
    return not wanted.entropy


def attend(projection: Projection, wanted: Wanted) -> Outcome:
    """Make statistics and the gradient of the hidden states by attention over the head."""
    hidden_ND, head_VD, bias_V, terms = (
        projection.hidden_ND,
        projection.head_VD,
        projection.bias_V,
        projection.terms,
    )
    accumulated = accumulation_dtype(hidden_ND)
    expectation_ND, log_sums_N = _attention(projection)
    absent_N = projection.labels_N < 0
    columns_N = projection.labels_N.clamp_min(0)
    precise_ND = hidden_ND.to(accumulated)
    label_rows_ND = head_VD.index_select(0, columns_N).to(accumulated).masked_fill_(absent_N[:, None], 0)
    label_logits_N = torch.linalg.vecdot(precise_ND, label_rows_ND)
    if bias_V is not None:
        label_logits_N += bias_V.index_select(0, columns_N).to(accumulated).masked_fill_(absent_N, 0)
    head_sum_D = head_VD.sum(0, dtype=accumulated) if terms.label_smoothing else None
    logit_sums_N = None
    if head_sum_D is not None:
        logit_sums_N = precise_ND @ head_sum_D
        if bias_V is not None:
            logit_sums_N += bias_V.sum(dtype=accumulated)
    mean_logits_N = torch.linalg.vecdot(precise_ND, expectation_ND) if wanted.entropy else None
    stats = merge_over_group(RowStatistics(log_sums_N, label_logits_N, logit_sums_N, mean_logits_N), projection.group)
    if not wanted.hidden:
        return Outcome(stats, None, None, None)
    factor_N = terms.softmax_factor(stats.log_sums_R) * (log_sums_N - stats.log_sums_R).exp_()
    gradient_ND = expectation_ND.mul_(factor_N[:, None].neg_())
    gradient_ND.add_(label_rows_ND, alpha=1 - terms.label_smoothing)
    if head_sum_D is not None:
        gradient_ND.add_(head_sum_D, alpha=terms.label_smoothing / projection.vocabulary)
    gradient_ND = sum_over_group(gradient_ND, projection.group)
    return Outcome(stats, gradient_ND.to(hidden_ND.dtype), None, None)


def _attention(projection: Projection) -> tuple[Tensor, Tensor]:
    """Return softmax(hidden head^T + bias) head, (N, D), and the log-sums, (N,), over this rank's vocabulary."""
    accumulated = accumulation_dtype(projection.hidden_ND)
    dtype = matmul_dtype(projection.hidden_ND.dtype, projection.hidden_ND.device)
    hidden_ND = projection.hidden_ND.to(dtype)
    bias_V = projection.bias_V
    expectation_ND = torch.zeros_like(hidden_ND, dtype=accumulated)
    log_sums_N = expectation_ND.new_full((len(hidden_ND),), -torch.inf)
    for columns, tile_SVD in _split_tiles(projection, dtype):
        splits = len(tile_SVD)
        mask_SNV = None if bias_V is None else bias_V[columns].to(dtype).view(1, splits, 1, -1)
        partial_SND, partial_sums_SN = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            hidden_ND.expand(1, splits, -1, -1),
            tile_SVD[None],
            tile_SVD[None],
            0.0,
            False,
            attn_mask=mask_SNV,
            scale=1.0,
        )
        partial_sums_SN = partial_sums_SN[0].to(accumulated)
        new_sums_N = torch.logsumexp(torch.cat([log_sums_N[None], partial_sums_SN]), dim=0)
        expectation_ND.mul_((log_sums_N - new_sums_N).exp_()[:, None])
        shares_SN = (partial_sums_SN - new_sums_N).exp_()
        for partial_ND, share_N in zip(partial_SND[0], shares_SN, strict=True):
            expectation_ND.addcmul_(partial_ND.to(accumulated), share_N[:, None])
        log_sums_N = new_sums_N
    return expectation_ND, log_sums_N


def _split_tiles(projection: Projection, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield tiles of the head, (S, V / S, D), and their columns.

    Attention is spread over threads by blocks of 32 rows at least; where those are too few, splits make up for it.
    """
    wished = max(1, torch.get_num_threads() // -(-len(projection.hidden_ND) // 32))
    for columns, tile_TD in head_tiles(projection.head_VD, dtype):
        splits = min(wished, len(tile_TD))
        even = len(tile_TD) - len(tile_TD) % splits
        yield slice(columns.start, columns.start + even), tile_TD[:even].unflatten(0, (splits, -1))
        if even < len(tile_TD):
            yield slice(columns.start + even, columns.stop), tile_TD[None, even:]
