"""Attention over the documents of a packed row, with log-sum-exps: no mask, nothing padded, memory linear in tokens.

Attention over two sets of keys is the average of the attention over each, weighed by exp(log-sum-exp). So a row may be
computed piece by piece, by many processes around a ring, and merged; and each piece's gradient needs only its own keys
and the merged output and log-sum-exp.

T queries, S keys, H heads, G key-value heads (H = G R), K head size, V value size (often K).
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from . import attention_cpu
from .attention_documents import Document as Document
from .attention_documents import Documents as Documents
from .attention_documents import Scoring


def attention(
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    documents: Documents,
    *,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Let each query attend to its document's keys.

    out_t = sum_s softmax_s(scale q_t k_s) v_s, over the keys s that t sees

    Args:
        query_THK: (T, H, K); heads h R to (h + 1) R - 1 share key-value head h.
        key_SGK: (S, G, K) of the same type and device.
        value_SGV: (S, G, V).
        documents: which rows belong together; rows of none get zero.
        scale: 1 / sqrt(K) by default.
        causal: a document's last query sees its last key, each query before it one key less. Else all see all.
        window: how many keys a causal query sees, itself included, counted over prefix and own keys.
        soft_cap: scores s become soft_cap * tanh(s / soft_cap).
        sinks_H: (H,) score of a key per head whose value is zero, as in gpt-oss.

    Returns:
        (T, H, V) of the query's type; differentiable once.

    Raises:
        ValueError: shapes, types, documents or options don't fit together.

    Source: FlashAttention-2, arXiv 2307.08691, algorithms 1 and 2; soft cap: Gemma 2, arXiv 2408.00118, section 2.
    """
    out, lse = attention_with_lse(
        query_THK, key_SGK, value_SGV, documents, scale=scale, causal=causal, window=window, soft_cap=soft_cap
    )
    return out if sinks_H is None else add_sinks(out, lse, sinks_H)[0]


def attention_with_lse(
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    documents: Documents,
    *,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    soft_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute `attention` and the log-sum-exp of each row's scores, both differentiable.

    Args:
        query_THK: this and the others as `attention`'s. Sinks are added once, after the last merge: `add_sinks`.

    Returns:
        out (T, H, V), and lse float32 (T, H) in nats (float64 for float64 inputs); 0 and -inf for rows without keys.

    Raises:
        ValueError: as `attention`.
    """
    query_THK, key_SGK, value_SGV = _autocast(query_THK, key_SGK, value_SGV)
    scoring = Scoring(scale if scale is not None else query_THK.shape[-1] ** -0.5, causal, window, soft_cap)
    _check(query_THK, key_SGK, value_SGV, documents, scoring)
    out, lse = BlockAttention.apply(query_THK, key_SGK, value_SGV, documents, scoring, _kernels(query_THK))
    return out, lse


@torch.no_grad()
def attention_backward(
    dout_THV: Tensor,
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    out_THV: Tensor,
    lse_TH: Tensor,
    documents: Documents,
    *,
    dlse_TH: Tensor | None = None,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    soft_cap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients that go through the keys of one piece, when output and log-sum-exp are of all pieces.

    Args:
        dout_THV: gradient of the merged output.
        query_THK: this, keys and values as given to the piece's `attention_with_lse`, with the same options.
        key_SGK: the piece's keys.
        value_SGV: the piece's values.
        out_THV: the merged output.
        lse_TH: the merged log-sum-exp.
        documents: the piece's documents.
        dlse_TH: gradient of the merged log-sum-exp, where it was used.
        scale: this and the following as `attention`'s.
        causal: see there.
        window: see there.
        soft_cap: see there.

    Returns:
        The piece's part of the query's gradient (add up over pieces), and the gradients of its keys and values.

    Raises:
        ValueError: as `attention`, or the outputs' shapes don't fit.

    Source: Ring Attention with Blockwise Transformers, arXiv 2310.01889, section 3.
    """
    scoring = Scoring(scale if scale is not None else query_THK.shape[-1] ** -0.5, causal, window, soft_cap)
    _check(query_THK, key_SGK, value_SGV, documents, scoring)
    shape = (*query_THK.shape[:2], value_SGV.shape[2])
    if (dout_THV.shape, out_THV.shape, lse_TH.shape) != (shape, shape, shape[:2]):
        raise ValueError(
            f"dout {tuple(dout_THV.shape)}, out {tuple(out_THV.shape)}, lse {tuple(lse_TH.shape)}; "
            f"expected {shape}, {shape} and {shape[:2]}"
        )
    kernels = _kernels(query_THK)
    with torch.autocast(query_THK.device.type, enabled=False):
        return kernels.backward(dout_THV, query_THK, key_SGK, value_SGV, out_THV, lse_TH, dlse_TH, documents, scoring)


def merge_attention(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    """Join the attention of the same queries over two disjoint sets of keys.

    lse = log(exp lse_a + exp lse_b), out = exp(lse_a - lse) out_a + exp(lse_b - lse) out_b

    Args:
        out_a: (T, H, V). Give float32 where many are merged one after the other.
        lse_a: float32 (T, H) in nats; -inf where a row saw no key, and its output counts nothing.
        out_b: as `out_a`.
        lse_b: as `lse_a`.

    Returns:
        out of the wider of both types, and lse; differentiable.
    """
    top = torch.maximum(lse_a, lse_b).detach()
    top = top.masked_fill(top == -math.inf, 0.0)
    weight_a, weight_b = torch.exp(lse_a - top), torch.exp(lse_b - top)
    total = weight_a + weight_b
    empty = total == 0
    total = total.masked_fill(empty, 1.0)  # its logarithm has a gradient also where it isn't used
    out = (weight_a / total)[..., None] * out_a + (weight_b / total)[..., None] * out_b
    lse = (top + torch.log(total)).masked_fill(empty, -math.inf)
    return out.to(torch.promote_types(out_a.dtype, out_b.dtype)), lse


def add_sinks(out_THV: Tensor, lse_TH: Tensor, sinks_H: Tensor) -> tuple[Tensor, Tensor]:
    """Let each row also see a key of score `sinks_H` whose value is zero; do so once, after the last merge.

    Args:
        out_THV: what `attention_with_lse` or `merge_attention` returned.
        lse_TH: likewise.
        sinks_H: (H,) scores in nats, differentiable.

    Returns:
        out and lse with the sinks counted.
    """
    sinks = sinks_H.to(lse_TH.dtype)
    return (out_THV * torch.sigmoid(lse_TH - sinks)[..., None]).to(out_THV.dtype), torch.logaddexp(lse_TH, sinks)


def attention_reference(
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    documents: Documents,
    *,
    scale: float | None = None,
    causal: bool = True,
    window: int | None = None,
    soft_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute what `attention_with_lse` computes, in plain torch with a mask of T x S: what others are tested by.

    Args:
        query_THK: this and the others as `attention_with_lse`'s.
    """
    share = query_THK.shape[1] // key_SGK.shape[1]
    keys_SHK, values_SHV = (each.repeat_interleave(share, dim=1) for each in (key_SGK, value_SGV))
    scores_HTS = torch.einsum("thk,shk->hts", query_THK, keys_SHK)
    scores_HTS = scores_HTS * (scale if scale is not None else query_THK.shape[-1] ** -0.5)
    if soft_cap is not None:
        scores_HTS = soft_cap * torch.tanh(scores_HTS / soft_cap)
    seen_TS = torch.zeros(scores_HTS.shape[1:], dtype=torch.bool, device=scores_HTS.device)
    for document in documents:
        keys = [*range(document.prefix_start, document.prefix_end), *range(document.key_start, document.key_end)]
        for index in range(document.query_end - document.query_start):
            place = document.shift + index
            stop = max(0, place + 1) if causal else len(keys)
            seen_TS[document.query_start + index, keys[max(0, stop - window) if window else 0 : stop]] = True
    blind_T1 = ~seen_TS.any(1, keepdim=True)
    scores_HTS = scores_HTS.masked_fill(~(seen_TS | blind_T1), -math.inf)
    out_THV = torch.einsum("hts,shv->thv", torch.softmax(scores_HTS, -1), values_SHV)
    return out_THV.masked_fill(blind_T1[..., None], 0.0), scores_HTS.logsumexp(-1).t().masked_fill(blind_T1, -math.inf)


class BlockAttention(torch.autograd.Function):
    """One autograd step over all documents, by the `forward` and `backward` of a module of kernels."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        documents: Documents,
        scoring: Scoring,
        kernels: ModuleType,
    ) -> tuple[Tensor, Tensor]:
        """Keep inputs, output and log-sum-exp, nothing of the size of scores."""
        with torch.autocast(query.device.type, enabled=False):
            out, lse = kernels.forward(query, key, value, documents, scoring)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.set_materialize_grads(False)
        ctx.documents, ctx.scoring, ctx.kernels = documents, scoring, kernels  # type: ignore[attr-defined]  # a context takes attributes
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, dout: Tensor | None, dlse: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        """Recompute probabilities from the log-sum-exp."""
        query, key, value, out, lse = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        if dout is None:
            dout = torch.zeros_like(out)
        documents, scoring, kernels = ctx.documents, ctx.scoring, ctx.kernels  # type: ignore[attr-defined]  # set above
        with torch.autocast(query.device.type, enabled=False):
            grads = kernels.backward(dout, query, key, value, out, lse, dlse, documents, scoring)
        return *grads, None, None, None


def _kernels(query: Tensor) -> ModuleType:
    """Choose by device: Triton's on a GPU, tiles of torch operations elsewhere and for float64."""
    if not query.is_cuda or query.dtype == torch.float64:
        return attention_cpu
    try:
        from . import attention_triton
    except ImportError as error:
        raise ImportError("triton is needed for attention on a GPU; pip install 'swift-kernels[triton]'") from error
    return attention_triton


def _autocast(*tensors: Tensor) -> list[Tensor]:
    """Cast as torch's own attention does where autocast is on."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    return [each.to(torch.get_autocast_dtype(device)) for each in tensors]


def _check(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scoring: Scoring) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.ndim == key.ndim == value.ndim == 3 or key.shape[:2] != value.shape[:2]:
        raise ValueError(f"{shapes}; expected (T, H, K), (S, G, K) and (S, G, V): one packed row, without a batch")
    if query.shape[2] != key.shape[2] or key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(f"{shapes}; expected one head size K, and heads H a multiple of key-value heads G")
    if not query.dtype == key.dtype == value.dtype or not query.device == key.device == value.device:
        kinds = ", ".join(f"{each.dtype} on {each.device}" for each in (query, key, value))
        raise ValueError(f"query, key and value are {kinds}; expected the same type and device")
    if documents.num_queries > len(query) or documents.num_keys > len(key):
        raise ValueError(
            f"documents reach to query {documents.num_queries} and key {documents.num_keys}; "
            f"given are {len(query)} queries and {len(key)} keys; build the documents from this row's lengths"
        )
    if scoring.window is not None and (scoring.window < 1 or not scoring.causal):
        raise ValueError(
            f"window={scoring.window!r} with causal={scoring.causal!r}; "
            "expected a positive number of keys and causal=True, or no window"
        )
    if scoring.soft_cap is not None and not scoring.soft_cap > 0:
        raise ValueError(f"soft_cap={scoring.soft_cap!r}; expected a positive number, or None for no cap")
