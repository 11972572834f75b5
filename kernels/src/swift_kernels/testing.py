"""What every kernel must hold against its reference: values, gradients, and no reliance on what memory held before."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def check_kernel(
    kernel: Callable[..., Tensor], reference: Callable[..., Tensor], inputs: Sequence[Tensor], *, tolerance: float
) -> None:
    """Hold a kernel's output and gradients against its reference computed in float64.

    The kernel finds new memory full of NaN, or of the largest integers, so that what it forgets to write is seen.

    Args:
        kernel: what is tested, called with `inputs`.
        reference: the same in plain torch, called with the floating inputs in float64.
        inputs: tensors; those of floating type are differentiated.
        tolerance: largest allowed difference, relative to the largest reference value, for output and each gradient.

    Raises:
        AssertionError: a difference is larger, or one has a gradient that the other lacks; the message names which.
    """
    ours = [_leaf(each, each.dtype) for each in inputs]
    exact = [_leaf(each, torch.float64) for each in inputs]
    expected = reference(*exact)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = weight.to(expected.device)
    with poisoned_memory():
        output = kernel(*ours)
        _compare("output", output, expected, tolerance)
        _same_presence("output is differentiable", output.requires_grad, expected.requires_grad)
        if output.requires_grad:
            (output.double() * weight).sum().backward()
            (expected * weight).sum().backward()
    for index, (mine, theirs) in enumerate(zip(ours, exact, strict=True)):
        _same_presence(f"input {index} has a gradient", mine.grad is not None, theirs.grad is not None)
        if mine.grad is not None and theirs.grad is not None:
            _compare(f"gradient of input {index}", mine.grad, theirs.grad, tolerance)


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Let torch fill memory that it gives out uninitialized; afterwards all is set as it was."""
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property of the module
    mode, warns_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        # The filling comes only with deterministic algorithms. Which algorithm runs is not what is tested.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]  # as above
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]  # as above
        torch.use_deterministic_algorithms(mode, warn_only=warns_only)


def _leaf(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.detach().to(dtype, copy=True).requires_grad_()


def _same_presence(what: str, ours: bool, expected: bool) -> None:
    assert ours == expected, f"{what}: {ours} for the kernel, {expected} for the reference"


def _compare(what: str, value: Tensor, expected: Tensor, tolerance: float) -> None:
    assert value.shape == expected.shape, f"{what} has shape {tuple(value.shape)}, expected {tuple(expected.shape)}"
    difference = float((value.detach().double() - expected.detach().double()).abs().max()) / max(
        1e-30, float(expected.detach().abs().max())
    )
    assert difference <= tolerance, f"{what} differs by {difference:.2e} of its largest value; allowed {tolerance:.0e}"
