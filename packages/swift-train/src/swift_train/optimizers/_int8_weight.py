"""A weight that is kept in 8 bits and trains: it looks like a tensor of floats, and its gradient is one.

A linear layer makes the floats for the time of its product, forward and backward. Whatever else reads the weight gets
ordinary floats; copied elsewhere it is an ordinary tensor, so that checkpoints hold ordinary weights.

Source: Q-GaLore, arXiv 2407.08296, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ._grouped_codes import GroupedCodes, decode, encode

BITS = 8
GROUP_SIZE = 256
"""Numbers that share a scale, as in the paper."""

_aten = torch.ops.aten


class Int8Weight(Tensor):
    """Codes in the guise of floats.

    Args:
        coded: the numbers.
        shape: theirs.
        dtype: of the floats that are made of them.
    """

    coded: GroupedCodes

    @staticmethod
    def __new__(cls: type[Int8Weight], coded: GroupedCodes, shape: torch.Size, dtype: torch.dtype) -> Int8Weight:
        """Make a tensor without numbers of its own."""
        made: Int8Weight = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=coded.codes.device)
        return made

    def __init__(self, coded: GroupedCodes, shape: torch.Size, dtype: torch.dtype) -> None:
        self.coded = coded

    def __repr__(self, **_: object) -> str:  # type: ignore[override]  # torch's is untyped
        return f"Int8Weight(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    def floats(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the numbers as an ordinary tensor, by default of the type that this one claims."""
        return decode(self.coded, self.shape, bits=BITS).to(dtype or self.dtype)

    def assign(self, values: Tensor, generator: torch.Generator | None = None) -> None:
        """Take other numbers, rounded to the nearest, or stochastically with a generator."""
        found = encode(values.float(), bits=BITS, group_size=GROUP_SIZE, generator=generator)
        for own, new in zip(self.coded, found, strict=True):
            own.copy_(new)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[Any, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # as torch's own
        """Make a linear layer's product by codes."""
        if func is nn.functional.linear:
            return _Linear.apply(*_linear_arguments(*args, **(kwargs or {})))
        # Torch's own way would call each result an Int8Weight.
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's is no class method
        cls,
        func: Any,  # noqa: ANN401  # an operator of torch, which has no public type
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[Any, Any] | None = None,
    ) -> Any:  # noqa: ANN401  # as torch's own
        """Give floats to whatever reads."""
        if func is _aten.detach.default:
            (given,) = args
            return cls(given.coded, given.shape, given.dtype)
        if func is _aten.copy_.default and isinstance(args[0], cls):
            with torch.no_grad():
                args[0].assign(args[1].floats() if isinstance(args[1], cls) else args[1])
            return args[0]
        if func._schema.is_mutable and isinstance(args[0], cls):
            raise TypeError(f"a weight in 8 bits cannot be changed by {func}; use copy_, or train it by q_galore")
        named = {name: _to_floats(each) for name, each in (kwargs or {}).items()}
        return func(*map(_to_floats, args), **named)


def to_int8(parameter: nn.Parameter) -> None:
    """Turn a parameter's numbers into codes; it stays the same object."""
    coded = encode(parameter.detach().float(), bits=BITS, group_size=GROUP_SIZE)
    weight = nn.Parameter(Int8Weight(coded, parameter.shape, parameter.dtype), requires_grad=parameter.requires_grad)
    # Whatever holds the parameter, such as a tuner, holds the codes from now on, and the floats are freed.
    torch.utils.swap_tensors(parameter, weight)


class _Linear(torch.autograd.Function):
    """x W^T + b, keeping codes for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Int8Weight, bias: Tensor | None) -> Tensor:  # noqa: ANN401  # torch's
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return nn.functional.linear(x, weight.floats(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        flat = gradients[0].flatten(end_dim=-2)
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            gradients[0] @ weight.floats(flat.dtype) if to_x else None,
            (flat.T @ x.flatten(end_dim=-2)).to(weight.dtype) if to_weight else None,
            flat.sum(0) if ctx.has_bias and to_bias else None,
        )


def _linear_arguments(
    input: Tensor,  # torch's name
    weight: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    return input, weight, bias


def _to_floats(value: object) -> object:
    if isinstance(value, Int8Weight):
        return value.floats()
    if isinstance(value, list | tuple):
        return type(value)(map(_to_floats, value))
    return value
