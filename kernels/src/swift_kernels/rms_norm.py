"""Root mean square normalization, alone or after a residual addition, in few passes over memory.

Written in plain torch it makes eight temporary tensors, several of them in float32. Here a CPU walks chunks of rows
that stay in its cache, and keeps only the input and one number for each row. A frozen weight gets no gradient. On a GPU
liger-kernel does the work where it is installed.

T tokens, D model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Elements of a chunk, for each thread. Measured on one core of a Xeon with 2 MB of second-level cache, (2048, 576) in
# bfloat16, forward and backward: 4.8 ms at 2^15, 3.4 at 2^17, 3.6 at 2^18, 5.4 unchunked; LlamaRMSNorm 9.9.
CHUNK = 1 << 17


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Normalize each row by its root mean square.

    y = weight (x / sqrt(mean x^2 + eps)), normalized in float32 or better and cast before the product with the weight.

    Args:
        x: (..., D) of a floating type.
        weight_D: frozen or not.
        eps: added to the mean square.

    Returns:
        (..., D), of x's and the weight's common type, differentiable once.

    Raises:
        ValueError: the shapes don't fit.

    Source: Root Mean Square Layer Normalization, arXiv 1910.07467, equation 4; casts as transformers' LlamaRMSNorm.
    """
    _check(x, x, weight_D)
    if x.device.type == "cpu":
        y: Tensor = _RmsNorm.apply(x, weight_D, eps)
        return y
    if x.is_cuda and importlib.util.find_spec("liger_kernel"):
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, no types

        return LigerRMSNormFunction.apply(x, weight_D, eps, 0.0, "llama", False)
    return rms_norm_reference(x, weight_D, eps)


def add_rms_norm(residual: Tensor, x: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Add x to the residual stream and normalize the sum.

    Args:
        residual: (..., D) of a floating type.
        x: of the same shape and type.
        weight_D: as `rms_norm`.
        eps: as `rms_norm`.

    Returns:
        The sum, of x's type, and its norm.

    Raises:
        ValueError: the shapes don't fit.
    """
    _check(residual, x, weight_D)
    if x.device.type == "cpu":
        both: tuple[Tensor, Tensor] = _AddRmsNorm.apply(residual, x, weight_D, eps)
        return both
    if x.is_cuda and importlib.util.find_spec("liger_kernel"):
        from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, no types

        y, total = LigerFusedAddRMSNormFunction.apply(x, residual, weight_D, eps, 0.0, "llama", False)
        return total, y
    total = residual + x
    return total, rms_norm_reference(total, weight_D, eps)


def rms_norm_reference(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Compute what `rms_norm` computes, in plain torch: what the fast path is tested against."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return weight_D * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_TD = x.reshape(-1, x.shape[-1])
        scales_T = x.new_empty(len(x_TD), dtype=_wide(x))
        y_TD = torch.empty_like(x_TD, dtype=torch.promote_types(x.dtype, weight_D.dtype))
        for rows, (wide,) in _chunks(x_TD, 1):
            _normalize(x_TD[rows], weight_D, eps, wide, scales_T[rows], y_TD[rows])
        ctx.save_for_backward(x_TD, weight_D, scales_T)
        return y_TD.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        dx, dweight_D = _backward(ctx, grads[0], None)
        return dx, dweight_D, None


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, residual: Tensor, x: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x_TD, residual_TD = x.reshape(-1, x.shape[-1]), residual.reshape(-1, x.shape[-1])
        total_TD = torch.empty_like(x_TD)
        scales_T = x.new_empty(len(x_TD), dtype=_wide(x))
        y_TD = torch.empty_like(x_TD, dtype=torch.promote_types(x.dtype, weight_D.dtype))
        for rows, (wide,) in _chunks(x_TD, 1):
            torch.add(residual_TD[rows], x_TD[rows], out=total_TD[rows])
            _normalize(total_TD[rows], weight_D, eps, wide, scales_T[rows], y_TD[rows])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(total_TD, weight_D, scales_T)
        return total_TD.view(x.shape), y_TD.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        dtotal, dy = grads
        if dy is None:
            return dtotal, dtotal, None, None
        dx, dweight_D = _backward(ctx, dy, dtotal)
        return dx, dx, dweight_D, None


def _normalize(x_TD: Tensor, weight_D: Tensor, eps: float, wide: Tensor, scales_T: Tensor, y_TD: Tensor) -> None:
    """Write 1 / sqrt(mean x^2 + eps) to `scales_T` and the norm to `y_TD`; `wide` is scratch."""
    source = x_TD if x_TD.dtype == wide.dtype else wide.copy_(x_TD)
    torch.linalg.vector_norm(source, dim=-1, out=scales_T)
    scales_T.square_().div_(x_TD.shape[1]).add_(eps).rsqrt_()
    if y_TD.dtype == source.dtype == x_TD.dtype:
        torch.mul(source, scales_T[:, None], out=y_TD)
    else:
        # Rounded to x's type even where the weight's, and so the result's, is wider: as the models do it.
        y_TD.copy_(torch.mul(source, scales_T[:, None], out=wide).to(x_TD.dtype))
    y_TD.mul_(weight_D)


def _backward(ctx: FunctionCtx, dy: Tensor, dtotal: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return dx = r (g - x r^2 mean(g x)) + dtotal with g = dy weight, and dweight = sum_t dy x r.

    r is a row's scale.
    """
    x_TD, weight_D, scales_T = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
    needs_weight = ctx.needs_input_grad[-2]  # type: ignore[attr-defined]  # set by autograd; eps is last
    wide_type = scales_T.dtype
    dy_TD, dx_TD = dy.reshape(x_TD.shape), torch.empty_like(x_TD)
    dtotal_TD = None if dtotal is None else dtotal.reshape(x_TD.shape)
    dweight_D = torch.zeros_like(weight_D, dtype=wide_type) if needs_weight else None
    weight = weight_D.to(wide_type)
    for rows, (g, x_rows, scratch) in _chunks(x_TD, 3):
        r = scales_T[rows, None]
        x_rows = x_TD[rows] if x_TD.dtype == wide_type else x_rows.copy_(x_TD[rows])
        dy_rows = dy_TD[rows] if dy_TD.dtype == wide_type else g.copy_(dy_TD[rows])
        if dweight_D is not None:
            dweight_D += torch.mul(dy_rows, x_rows, out=scratch).mul_(r).sum(0)
        torch.mul(dy_rows, weight, out=g)
        means = torch.mul(g, x_rows, out=scratch).sum(-1, keepdim=True).div_(-x_TD.shape[1]).mul_(r).mul_(r)
        g.addcmul_(x_rows, means).mul_(r)
        if dtotal_TD is not None:
            g += dtotal_TD[rows]
        dx_TD[rows] = g
    return dx_TD.view(dy.shape), None if dweight_D is None else dweight_D.to(weight_D.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _chunks(x_TD: Tensor, count: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Walk chunks of rows, each with wide scratch tensors of its size."""
    num_rows, width = x_TD.shape
    step = min(max(1, num_rows), max(1, CHUNK * torch.get_num_threads() // max(1, width)))
    scratch = [x_TD.new_empty((step, width), dtype=_wide(x_TD)) for _ in range(count)]
    for start in range(0, num_rows, step):
        size = min(step, num_rows - start)
        yield slice(start, start + size), [each[:size] for each in scratch]


def _check(residual: Tensor, x: Tensor, weight_D: Tensor) -> None:
    if residual.shape != x.shape or residual.dtype != x.dtype or weight_D.shape != x.shape[-1:] or x.ndim == 0:
        raise ValueError(
            f"residual {tuple(residual.shape)} of {residual.dtype}, x {tuple(x.shape)} of {x.dtype} and weight "
            f"{tuple(weight_D.shape)} do not fit; expected (..., D) twice of one type, and (D,)"
        )
