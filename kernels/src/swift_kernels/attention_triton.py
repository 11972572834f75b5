"""Attention over documents by Triton: what runs on GPUs.

Three kernels: outputs by blocks of queries; gradients of queries by the same blocks; gradients of keys and values by
blocks of keys, each walking the queries that see it. Log-sum-exps replace what a softmax would keep.

T queries, S keys, H heads, G key-value heads, K head size, V value size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .attention_documents import Documents, Scoring
from .attention_tables import QUERY_FIELDS, VISIT_FIELDS, key_table, query_table
from .attention_triton_kernels import forward_kernel, key_gradient_kernel, query_gradient_kernel

MAX_SIZE = 256


class Launch(NamedTuple):
    """Rows of a program's own block, rows of each step of its walk, warps, pipeline stages."""

    rows: int
    columns: int
    num_warps: int
    num_stages: int


class Launches(NamedTuple):
    """How each kernel is launched."""

    forward: Launch
    query_gradient: Launch
    key_gradient: Launch


# By head size, the largest of a few blocks that compile without spills, windows and caps on, for sm_80, sm_90 and
# sm_100, or gfx942 (tests/test_kernels_attention_triton.py). Chosen by the compiler's word, never timed on a GPU.
NVIDIA_HALF = {
    64: Launches(Launch(128, 64, 8, 2), Launch(128, 64, 8, 2), Launch(128, 64, 8, 2)),
    128: Launches(Launch(128, 64, 8, 2), Launch(128, 64, 8, 2), Launch(64, 64, 8, 2)),
    256: Launches(Launch(64, 32, 8, 1), Launch(32, 32, 8, 1), Launch(32, 32, 8, 1)),
}
NVIDIA_FLOAT = {
    64: Launches(Launch(64, 32, 8, 1), Launch(64, 32, 8, 1), Launch(32, 32, 8, 1)),
    128: Launches(Launch(64, 16, 8, 1), Launch(64, 16, 8, 1), Launch(32, 16, 8, 1)),
    256: Launches(Launch(32, 16, 8, 1), Launch(32, 16, 8, 1), Launch(32, 16, 8, 1)),
}
AMD_HALF = {
    64: Launches(Launch(128, 32, 4, 2), Launch(128, 64, 4, 2), Launch(128, 32, 8, 1)),
    128: Launches(Launch(128, 64, 8, 1), Launch(64, 32, 4, 1), Launch(32, 32, 4, 1)),
    256: Launches(Launch(64, 32, 8, 1), Launch(64, 16, 8, 1), Launch(64, 16, 8, 1)),
}
AMD_FLOAT = {
    64: Launches(Launch(64, 16, 4, 1), Launch(64, 32, 8, 1), Launch(64, 16, 4, 1)),
    128: Launches(Launch(64, 16, 8, 1), Launch(64, 16, 8, 1), Launch(64, 16, 8, 1)),
    256: Launches(Launch(32, 16, 8, 1), Launch(16, 16, 4, 1), Launch(16, 16, 4, 1)),
}


def forward(
    query_THK: Tensor, key_SGK: Tensor, value_SGV: Tensor, documents: Documents, scoring: Scoring
) -> tuple[Tensor, Tensor]:
    """Compute what `attention_cpu.forward` computes.

    Raises:
        ValueError: a head is larger than 256.
    """
    query, key, value = (_with_dense_heads(each) for each in (query_THK, key_SGK, value_SGV))
    (num_rows, num_heads), value_size = query.shape[:2], value.shape[2]
    covered = documents.cover_queries(num_rows)
    out = (torch.empty if covered else torch.zeros)(
        (num_rows, num_heads, value_size), dtype=query.dtype, device=query.device
    )
    lse = torch.full((num_rows, num_heads), -math.inf, dtype=torch.float32, device=query.device)
    launch = _launches(query, value).forward
    table = query_table(documents, scoring.causal, launch.rows, query.device)
    if len(table):
        forward_kernel[(len(table), num_heads)](
            query,
            key,
            value,
            out,
            lse,
            table,
            *_strides(query, key, value),
            num_heads,
            *_numbers(scoring),
            **_constants(query, key, value, scoring, launch, QUERY_FIELDS),
        )
    return out, lse


def backward(
    dout_THV: Tensor,
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    out_THV: Tensor,
    lse_TH: Tensor,
    dlse_TH: Tensor | None,
    documents: Documents,
    scoring: Scoring,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `attention_cpu.backward` computes.

    Raises:
        ValueError: a head is larger than 256.
    """
    query, key, value, dout = (_with_dense_heads(each) for each in (query_THK, key_SGK, value_SGV, dout_THV))
    dout = dout.to(query.dtype)
    delta = (dout_THV.float() * out_THV.float()).sum(-1)
    if dlse_TH is not None:
        delta -= dlse_TH
    lse, delta = lse_TH.float().contiguous(), delta.contiguous()
    num_rows, num_heads = query.shape[:2]
    # Not `empty_like`: that would copy the strides of a view, and kernels write dense rows.
    covered = documents.cover_queries(num_rows)
    dquery = (torch.empty if covered else torch.zeros)(query.shape, dtype=query.dtype, device=query.device)
    dkey, dvalue = (torch.zeros(each.shape, dtype=each.dtype, device=each.device) for each in (key, value))
    chosen = _launches(query, value)
    given, strides, numbers = (
        (query, key, value, dout, lse, delta),
        _strides(query, key, value, dout),
        _numbers(scoring),
    )
    table = query_table(documents, scoring.causal, chosen.query_gradient.rows, query.device)
    if len(table):
        constants = _constants(query, key, value, scoring, chosen.query_gradient, QUERY_FIELDS)
        query_gradient_kernel[(len(table), num_heads)](
            *given, dquery, table, *strides, num_heads, *numbers, **constants
        )
    blocks, visits = key_table(documents, chosen.key_gradient.rows, query.device)
    if len(blocks):
        constants = _constants(query, key, value, scoring, chosen.key_gradient, VISIT_FIELDS)
        key_gradient_kernel[(len(blocks), key.shape[1])](
            *given, dkey, dvalue, blocks, visits, *strides, num_heads, *numbers, **constants
        )
    return dquery, dkey, dvalue


def launches(dtype: torch.dtype, size: int, *, amd: bool) -> Launches:
    """Choose blocks that fit into registers and shared memory.

    Args:
        dtype: of query, key and value.
        size: the larger of head and value size.
        amd: whether the GPU is AMD's.

    Raises:
        ValueError: a head is larger than 256.
    """
    if size > MAX_SIZE:
        raise ValueError(f"heads of size {size}; the GPU kernels compute sizes up to {MAX_SIZE}")
    table = (AMD_FLOAT if amd else NVIDIA_FLOAT) if dtype == torch.float32 else (AMD_HALF if amd else NVIDIA_HALF)
    return next(chosen for limit, chosen in table.items() if size <= limit)


def _launches(query: Tensor, value: Tensor) -> Launches:
    return launches(query.dtype, max(query.shape[2], value.shape[2]), amd=torch.version.hip is not None)


def _with_dense_heads(rows_THK: Tensor) -> Tensor:
    return rows_THK if rows_THK.stride(2) == 1 else rows_THK.contiguous()


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for each in tensors for stride in (each.stride(0), each.stride(1))]


def _numbers(scoring: Scoring) -> tuple[float, float, int]:
    return scoring.scale, scoring.soft_cap or 1.0, scoring.window or 0


def constants(
    heads: tuple[int, int], sizes: tuple[int, int], scoring: Scoring, launch: Launch, *, num_fields: int
) -> dict[str, int | bool]:
    """Return what a kernel is compiled for.

    Args:
        heads: of queries, and of keys.
        sizes: of keys, and of values.
        scoring: which of its options are on.
        launch: blocks, warps and stages.
        num_fields: integers of a table's row.
    """
    (size, value_size), tf32 = sizes, torch.backends.cuda.matmul.allow_tf32
    return {
        "SHARE": heads[0] // heads[1],
        "SIZE": size,
        "VALUE_SIZE": value_size,
        "PADDED": max(16, triton.next_power_of_2(size)),  # tl.dot takes no less
        "VALUE_PADDED": max(16, triton.next_power_of_2(value_size)),
        "CAUSAL": scoring.causal,
        "WINDOWED": scoring.window is not None,
        "CAPPED": scoring.soft_cap is not None,
        "FIELDS": num_fields,
        "ROWS": launch.rows,
        "COLUMNS": launch.columns,
        "TF32": tf32,
        "num_warps": launch.num_warps,
        "num_stages": launch.num_stages,
    }


def _constants(
    query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, launch: Launch, num_fields: int
) -> dict[str, int | bool]:
    heads, sizes = (query.shape[1], key.shape[1]), (query.shape[2], value.shape[2])
    return constants(heads, sizes, scoring, launch, num_fields=num_fields)
