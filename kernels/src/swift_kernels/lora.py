"""A linear layer with its low-rank branch, as one step of autograd.

y = x W^T + bias + s h B^T with h = drop(x) A^T. Written as separate modules the branch reads and writes the activations
several times over and keeps copies of them. Here only x and the narrow h are kept, layers that read the same x share
its gradient, the branch is added in place, small matrices are cast to the type of the large ones and never the other
way, and dropout's mask is found again from its seed. A frozen W gets no gradient.

T tokens, I input features, O output features, R ranks of all layers of a call side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .keep_masks import draw_seed
from .lora_plan import LoraLayer as LoraLayer
from .lora_plan import Plan, Scratch, plan_call


def lora_linear(
    x: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    a_RI: Tensor,
    b_OR: Tensor,
    scaling: float,
    *,
    dropout_p: float = 0.0,
    generator_seed: int | None = None,
) -> Tensor:
    """Compute y = x W^T + bias + s drop(x) A^T B^T.

    Args:
        x: (..., I) of a floating type.
        weight_OI: base weight.
        bias_O: base bias, or None.
        a_RI: what projects down.
        b_OR: what projects up.
        scaling: s.
        dropout_p: share of x's elements that the branch doesn't see; zero when not training.
        generator_seed: of the dropout mask; None draws one from torch's default generator.

    Returns:
        (..., O) of x's type, differentiable once in x, weight, bias, A and B, whichever require it; each gradient is of
        its tensor's type.

    Raises:
        ValueError: shapes don't fit, or dropout_p isn't in [0, 1).

    Source: LoRA, arXiv 2106.09685, equation 3. Deviation: the mask is a window of a fixed ring of bits (`keep_masks`).
    """
    layer = LoraLayer(weight_OI, bias_O, a_RI, b_OR, scaling)
    return lora_linears(x, [layer], dropout_p=dropout_p, generator_seed=generator_seed)[0]


def lora_linears(
    x: Tensor,
    layers: Sequence[LoraLayer],
    *,
    dropout_p: float = 0.0,
    generator_seed: int | None = None,
    one_mask: bool = True,
) -> tuple[Tensor, ...]:
    """Compute several layers that read the same x, as query, key and value do.

    Args:
        x: (..., I) of a floating type.
        layers: their weights and branches.
        dropout_p: as `lora_linear`.
        generator_seed: as `lora_linear`.
        one_mask: the branches see the same dropout of x, which costs the least; False drops for each by itself, as
            separate modules do.

    Returns:
        One output for each layer, as `lora_linear`.

    Raises:
        ValueError: as `lora_linear`.
    """
    _check(x, layers, dropout_p)
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    seed = 0
    if dropout_p:
        seed = draw_seed() if generator_seed is None else generator_seed
    fused = x.is_cuda and x.dtype in (torch.bfloat16, torch.float16)
    return apply_plan(plan_call(x, layers, p=dropout_p, seed=seed, one_mask=one_mask, fused=fused), x, layers)


def lora_linear_reference(
    x: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    a_RI: Tensor,
    b_OR: Tensor,
    scaling: float,
    keep: Tensor | None = None,
    p: float = 0.0,
) -> Tensor:
    """Compute what `lora_linear` computes, in plain torch, given the mask: what the fast paths are tested against."""
    dropped = x if keep is None else x * keep / (1.0 - p)
    return F.linear(x, weight_OI, bias_O) + scaling * F.linear(F.linear(dropped, a_RI), b_OR)


def apply_plan(plan: Plan, x: Tensor, layers: Sequence[LoraLayer]) -> tuple[Tensor, ...]:
    """Compute a call as planned."""
    tensors = [each for layer in layers for each in (layer.weight_OI, layer.bias_O, layer.a_RI, layer.b_OR)]
    outputs: tuple[Tensor, ...] = _LoraLinears.apply(plan, x.reshape(-1, x.shape[-1]), *tensors)
    return tuple(each.view(*x.shape[:-1], each.shape[-1]) for each in outputs)


class _LoraLinears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, plan: Plan, x_TI: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        with torch.autocast(x_TI.device.type, enabled=False):
            h_TR, outputs = _forward(plan, x_TI, _layers(plan, tensors))
        needs = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]  # set by autograd
        ctx.plan = plan  # type: ignore[attr-defined]  # for the backward pass
        ctx.set_materialize_grads(False)
        kept_x = x_TI if any(needs[0::4]) or any(needs[2::4]) else None
        kept_h = h_TR if any(needs[3::4]) else None
        ctx.save_for_backward(kept_x, kept_h, *tensors)  # type: ignore[arg-type]  # None may be saved
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x_TI, h_TR, *tensors = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        _, needs_x, *needs = ctx.needs_input_grad  # type: ignore[attr-defined]  # set by autograd
        given = next((each for each in grads if each is not None), None)
        if given is None:
            return (None,) * (2 + len(tensors))
        plan: Plan = ctx.plan  # type: ignore[attr-defined]  # set in forward
        with torch.autocast(given.device.type, enabled=False):
            layers = _layers(plan, tensors)
            reached = [need and grads[index // 4] is not None for index, need in enumerate(needs)]
            sums, a_RI = _zero_sums(plan, layers, reached)
            dx_TI = given.new_empty((len(given), layers[0].a_RI.shape[1])) if needs_x else None
            _backward(plan, layers, x_TI, h_TR, grads, dx_TI, sums, a_RI)
            return (None, dx_TI, *_finish(sums, tensors))


def _layers(plan: Plan, tensors: Sequence[Tensor | None]) -> list[LoraLayer]:
    layers = []
    for index, scaling in enumerate(plan.scalings):
        weight_OI, bias_O, a_RI, b_OR = (
            None if each is None else each.detach().to(plan.compute) for each in tensors[4 * index : 4 * index + 4]
        )
        assert weight_OI is not None and a_RI is not None and b_OR is not None
        layers.append(LoraLayer(weight_OI, bias_O, a_RI, b_OR, scaling))
    return layers


def _forward(plan: Plan, x_TI: Tensor, layers: Sequence[LoraLayer]) -> tuple[Tensor, tuple[Tensor, ...]]:
    a_RI = torch.cat([each.a_RI for each in layers])
    h_TR = x_TI.new_empty((len(x_TI), len(a_RI)), dtype=plan.compute)
    outputs = tuple(x_TI.new_empty((len(x_TI), len(each.weight_OI))) for each in layers)
    scratch = Scratch(a_RI)
    for rows in plan.chunks(x_TI):
        x_rows, h_rows = scratch.cast("x", x_TI[rows]), h_TR[rows]
        for piece, columns, keep in plan.masks(rows, x_TI.shape[1], x_TI.device):
            torch.mm(scratch.seen(x_rows[piece], keep), a_RI[columns].t(), out=h_rows[piece, columns])
        for layer, columns, y_TO in zip(layers, plan.columns(), outputs, strict=True):
            if plan.fused:
                _triton().add_low_rank(
                    x_rows,
                    layer.weight_OI,
                    h_rows[:, columns],
                    layer.b_OR,
                    layer.scaling,
                    out_MN=y_TO,
                    bias_N=layer.bias_O,
                )
                continue
            target = scratch.target("y", y_TO[rows])
            if layer.bias_O is None:
                y_rows = torch.mm(x_rows, layer.weight_OI.t(), out=target)
            else:
                y_rows = torch.addmm(layer.bias_O, x_rows, layer.weight_OI.t(), out=target)
            y_rows.addmm_(h_rows[:, columns], layer.b_OR.t(), alpha=layer.scaling)
            scratch.deliver(y_rows, y_TO[rows])
    return h_TR, outputs


def _backward(
    plan: Plan,
    layers: Sequence[LoraLayer],
    x_TI: Tensor | None,
    h_TR: Tensor | None,
    grads: Sequence[Tensor | None],
    dx_TI: Tensor | None,
    sums: Sequence[_Sums],
    da_RI: Tensor | None,
) -> None:
    """Write dx = sum_layers dy W + drop(u A), u = s dy B; add to dW, dbias, dA = u^T drop(x), dB = s dy^T h."""
    a_RI = torch.cat([each.a_RI for each in layers])
    scratch = Scratch(a_RI)
    for rows in plan.chunks(next(each for each in grads if each is not None)):
        u_TR = a_RI.new_zeros((rows.stop - rows.start, len(a_RI)))
        x_rows = None if x_TI is None else scratch.cast("x", x_TI[rows])
        dx_rows: Tensor | None = None
        masks = plan.masks(rows, a_RI.shape[1], a_RI.device)
        # The branches that see one mask are added in one product, where Triton is used with the last base product.
        joint = list(masks) if plan.joint else []
        last = max(index for index, grad in enumerate(grads) if grad is not None)
        for index, (layer, columns, grad, total) in enumerate(zip(layers, plan.columns(), grads, sums, strict=True)):
            if grad is None:
                continue
            dy_rows = scratch.cast("dy", grad[rows])
            torch.mm(dy_rows, layer.b_OR, out=u_TR[:, columns]).mul_(layer.scaling)
            if dx_TI is not None and joint and index == last:
                accumulate, weight_IO, keep = dx_rows is not None, layer.weight_OI.t(), joint[0][2]
                dx_rows = _triton().add_low_rank(
                    dy_rows, weight_IO, u_TR, a_RI.t(), 1.0, out_MN=dx_TI, keep_MN=keep, accumulate=accumulate
                )
            elif dx_TI is not None and dx_rows is None:
                dx_rows = torch.mm(dy_rows, layer.weight_OI, out=scratch.target("dx", dx_TI[rows]))
            elif dx_rows is not None:
                dx_rows.addmm_(dy_rows, layer.weight_OI)
            _add_product(total.weight_OI, dy_rows, x_rows)
            _add_product(total.b_RO, None if h_TR is None else h_TR[rows, columns], dy_rows, layer.scaling)
            if total.bias_O is not None:
                total.bias_O.add_(dy_rows.sum(0, dtype=total.bias_O.dtype))
        for piece, columns, keep in joint or masks:
            u_piece = u_TR[piece, columns]
            if dx_rows is not None and not joint:
                _add_branch(dx_rows[piece], u_piece, a_RI[columns], keep, scratch)
            if da_RI is not None and x_rows is not None:
                _add_product(da_RI[columns], u_piece, scratch.seen(x_rows[piece], keep))
        if dx_TI is not None and dx_rows is not None:
            scratch.deliver(dx_rows, dx_TI[rows])


def _add_branch(dx_TI: Tensor, u_TR: Tensor, a_RI: Tensor, keep_TI: Tensor | None, scratch: Scratch) -> None:
    if keep_TI is None:
        dx_TI.addmm_(u_TR, a_RI)
    else:
        dx_TI.addcmul_(torch.mm(u_TR, a_RI, out=scratch.take("piece", keep_TI.shape)), keep_TI)


def _triton() -> ModuleType:
    try:
        from . import lora_triton
    except ImportError as error:
        raise ImportError("triton is needed for LoRA on a GPU; pip install 'swift-kernels[triton]'") from error
    return lora_triton


@dataclass(frozen=True)
class _Sums:
    """One layer's gradients while rows are added to them, in float32 or better; None where none is needed."""

    weight_OI: Tensor | None
    bias_O: Tensor | None
    a_RI: Tensor | None
    b_RO: Tensor | None  # transposed: a product with a narrow left factor is the faster one


def _zero_sums(plan: Plan, layers: Sequence[LoraLayer], needs: Sequence[bool]) -> tuple[list[_Sums], Tensor | None]:
    """Return the sums of each layer, and A's of all layers in one piece."""
    dtype = torch.promote_types(plan.compute, torch.float32)
    a_RI = (
        layers[0].a_RI.new_zeros((sum(plan.ranks), layers[0].a_RI.shape[1]), dtype=dtype) if any(needs[2::4]) else None
    )

    def zeros(like: Tensor | None, needed: bool) -> Tensor | None:
        return torch.zeros(like.shape, dtype=dtype, device=like.device) if needed and like is not None else None

    sums = []
    for index, (layer, columns) in enumerate(zip(layers, plan.columns(), strict=True)):
        weight, bias, a, b = needs[4 * index : 4 * index + 4]
        part = a_RI[columns] if a_RI is not None and a else None
        sums.append(_Sums(zeros(layer.weight_OI, weight), zeros(layer.bias_O, bias), part, zeros(layer.b_OR.t(), b)))
    return sums, a_RI


def _finish(sums: Sequence[_Sums], tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    up = [None if each.b_RO is None else each.b_RO.t() for each in sums]
    found = [
        part for each, b_OR in zip(sums, up, strict=True) for part in (each.weight_OI, each.bias_O, each.a_RI, b_OR)
    ]
    return [
        None if part is None or tensor is None else part.to(tensor.dtype, memory_format=torch.contiguous_format)
        for part, tensor in zip(found, tensors, strict=True)
    ]


def _add_product(total: Tensor | None, left_TM: Tensor | None, right_TN: Tensor | None, scale: float = 1.0) -> None:
    """Add scale left^T right, unless there is nothing to add to."""
    if total is None:
        return
    assert left_TM is not None and right_TN is not None
    if total.dtype == left_TM.dtype:
        total.addmm_(left_TM.t(), right_TN, alpha=scale)
    elif total.is_cuda:
        total.add_(torch.mm(left_TM.t(), right_TN, out_dtype=total.dtype), alpha=scale)
    else:
        total.add_(torch.mm(left_TM.t(), right_TN), alpha=scale)


def _check(x: Tensor, layers: Sequence[LoraLayer], dropout_p: float) -> None:
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is {dropout_p!r}; expected at least 0 and less than 1")
    if not layers:
        raise ValueError("layers is empty; expected one LoraLayer at least")
    for each in layers:
        shapes = [tuple(tensor.shape) for tensor in (x, each.weight_OI, each.a_RI, each.b_OR)]
        fits = (
            x.ndim >= 1
            and [tensor.ndim for tensor in (each.weight_OI, each.a_RI, each.b_OR)] == [2, 2, 2]
            and x.shape[-1] == each.weight_OI.shape[1] == each.a_RI.shape[1]
            and each.b_OR.shape == (len(each.weight_OI), len(each.a_RI))
            and (each.bias_O is None or each.bias_O.shape == (len(each.weight_OI),))
        )
        if not fits:
            bias = None if each.bias_O is None else tuple(each.bias_O.shape)
            raise ValueError(
                "x {}, weight {}, A {}, B {} and bias {} do not fit; ".format(*shapes, bias)
                + "expected (..., I), (O, I), (R, I), (O, R) and (O,)"
            )
