"""What every kernel must hold against its reference: values, gradients, and no reliance on what memory held before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def check_kernel(
    kernel: Callable[..., Tensor], reference: Callable[..., Tensor], inputs: Sequence[Tensor], *, tolerance: float
) -> None:
    """Hold a kernel's output and gradients against its reference computed in float64.

    Args:
        kernel: what is tested, called with `inputs`.
        reference: the same in plain torch, called with the floating inputs in float64.
        inputs: tensors; those of floating type are differentiated.
        tolerance: largest allowed difference, relative to the largest reference value, for output and each gradient.

    Raises:
        AssertionError: a difference is larger; the message names which.
    """
    ours = [_leaf(each, each.dtype) for each in inputs]
    exact = [_leaf(each, torch.float64) for each in inputs]
    output, expected = kernel(*ours), reference(*exact)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (output.double() * weight).sum().backward()
    (expected * weight).sum().backward()
    _compare("output", output, expected, tolerance)
    for index, (mine, theirs) in enumerate(zip(ours, exact, strict=True)):
        if mine.grad is not None and theirs.grad is not None:
            _compare(f"gradient of input {index}", mine.grad, theirs.grad, tolerance)


def _leaf(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().to(dtype, copy=True).requires_grad_()


def _compare(what: str, value: Tensor, expected: Tensor, tolerance: float) -> None:
    difference = float((value.detach().double() - expected.detach().double()).abs().max()) / max(
        1e-30, float(expected.detach().abs().max())
    )
    assert difference <= tolerance, f"{what} differs by {difference:.2e} of its largest value; allowed {tolerance:.0e}"
