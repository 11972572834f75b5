"""Rotary position embedding of queries and keys that stand side by side, token by token, without padding.

Written in plain torch the halves are negated, copied side by side, multiplied and added: six passes over memory. Here
the product with the cosine is written once and each half is added to it in place. The backward pass is the rotation
back; it needs no queries and keys. On a GPU liger-kernel does the work where it is installed.

T tokens, H query heads, G key heads, K head size, R rotated part of it.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def rope(q_THK: Tensor, k_TGK: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate the first R features of each head, halves against each other: x cos + (-x2, x1) sin.

    Args:
        q_THK: queries of a floating type.
        k_TGK: keys of the same type; heads may be fewer.
        cos_TR: cosine of each token's angles; R is even, at most K. Cast to the queries' type.
        sin_TR: sine of the same.

    Returns:
        Rotated queries and keys, differentiable once in queries and keys.

    Raises:
        ValueError: the shapes don't fit, or R is odd.

    Source: RoFormer, arXiv 2104.09864, equation 34; halves instead of neighbours, as transformers' Llama.
    """
    _check(q_THK, k_TGK, cos_TR, sin_TR)
    cos_TR, sin_TR = cos_TR.to(q_THK.dtype), sin_TR.to(q_THK.dtype)
    if q_THK.is_cuda and importlib.util.find_spec("liger_kernel"):
        from liger_kernel.ops.rope import LigerRopeFunction  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, no types

        # It writes into what it is given, and wants (B, H, T, K) over (B, T, H, K) in memory.
        q, k = (each.clone()[None].transpose(1, 2) for each in (q_THK, k_TGK))
        q, k = LigerRopeFunction.apply(q, k, cos_TR[None], sin_TR[None])
        return q.transpose(1, 2)[0], k.transpose(1, 2)[0]
    both: tuple[Tensor, Tensor] = _Rope.apply(q_THK, k_TGK, cos_TR, sin_TR)
    return both


def rope_reference(x_THK: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Compute what `rope` computes for one of its inputs, in plain torch: what it is tested against."""
    width = cos_TR.shape[-1]
    turned, rest = x_THK[..., :width], x_THK[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos_TR[:, None] + torch.cat([-second, first], dim=-1) * sin_TR[:, None]
    return torch.cat([turned, rest], dim=-1)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q_THK: Tensor, k_TGK: Tensor, cos_TR: Tensor, sin_TR: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos_TR, sin_TR)
        ctx.set_materialize_grads(False)
        first, second = sin_TR.chunk(2, dim=-1)
        return _rotate(q_THK, cos_TR, -first, second), _rotate(k_TGK, cos_TR, -first, second)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        cos_TR, sin_TR = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        first, second = sin_TR.chunk(2, dim=-1)
        dq, dk = (None if each is None else _rotate(each, cos_TR, second, -first) for each in grads)
        return dq, dk, None, None


def _rotate(x_THK: Tensor, cos_TR: Tensor, to_first: Tensor, to_second: Tensor) -> Tensor:
    """Return x cos, plus the second half times `to_first` in the first, the first times `to_second` in the second."""
    width = cos_TR.shape[-1]
    half = width // 2
    out_THK = torch.empty_like(x_THK, memory_format=torch.contiguous_format)
    torch.mul(x_THK[..., :width], cos_TR[:, None], out=out_THK[..., :width])
    out_THK[..., :half].addcmul_(x_THK[..., half:width], to_first[:, None])
    out_THK[..., half:width].addcmul_(x_THK[..., :half], to_second[:, None])
    out_THK[..., width:] = x_THK[..., width:]
    return out_THK


def _check(q_THK: Tensor, k_TGK: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> None:
    fits = (
        q_THK.ndim == k_TGK.ndim == 3
        and q_THK.shape[::2] == k_TGK.shape[::2]
        and cos_TR.ndim == 2
        and cos_TR.shape == sin_TR.shape
        and len(cos_TR) == len(q_THK)
        and cos_TR.shape[1] <= q_THK.shape[2]
        and cos_TR.shape[1] % 2 == 0
    )
    if not fits or q_THK.dtype != k_TGK.dtype:
        shapes = [tuple(each.shape) for each in (q_THK, k_TGK, cos_TR, sin_TR)]
        raise ValueError(
            "queries {}, keys {}, cosine {} and sine {} do not fit; ".format(*shapes)
            + "expected (T, H, K), (T, G, K) of one type, and (T, R) twice with an even R of at most K"
        )
