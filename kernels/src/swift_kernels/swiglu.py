"""The gate of a SwiGLU layer, silu(gate) * up, which keeps its two inputs and nothing else.

Written in plain torch it keeps silu(gate) as well; here the backward pass computes it again, which takes a fiftieth of
the time of the layer's matrix products. On a GPU liger-kernel does the work where it is installed.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Compute silu(gate) * up.

    Args:
        gate: of any shape and floating type.
        up: of the same shape and type.

    Returns:
        The same shape and type, differentiable once.

    Raises:
        ValueError: the inputs differ in shape or type.

    Source: GLU Variants Improve Transformer, arXiv 2002.05202, equation 5.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(
            f"gate {tuple(gate.shape)} of {gate.dtype} and up {tuple(up.shape)} of {up.dtype} do not fit; "
            "expected one shape and type"
        )
    if gate.is_cuda and importlib.util.find_spec("liger_kernel"):
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, no types

        return LigerSiLUMulFunction.apply(gate, up)
    product: Tensor = _SwiGlu.apply(gate, up)
    return product


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    """Compute what `swiglu` computes, in plain torch: what it is tested against."""
    return F.silu(gate) * up


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gate, up = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        needs_gate, needs_up = ctx.needs_input_grad  # type: ignore[attr-defined]  # set by autograd
        (dy,) = grads
        dgate = dup = None
        if needs_gate:
            dgate = torch.mul(dy, up)
            torch.ops.aten.silu_backward.grad_input(dgate, gate, grad_input=dgate)
        if needs_up:
            dup = F.silu(gate).mul_(dy)
        return dgate, dup
