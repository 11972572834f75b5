"""The check of kernels finds bad ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from swift_kernels.testing import check_kernel, poisoned_memory
from torch import Tensor
from torch.autograd.function import FunctionCtx


def double(x_N: Tensor) -> Tensor:
    return 2 * x_N


def forget_the_last(x_N: Tensor) -> Tensor:
    """Leave the last value to what the memory held before."""
    out_N = torch.empty_like(x_N)
    out_N[:-1] = 2 * x_N[:-1]
    return out_N


class _ForgetInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x_N: Tensor) -> Tensor:
        return 2 * x_N

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> Tensor:
        grad_N = torch.empty_like(grad_outputs[0])
        grad_N[:-1] = 2 * grad_outputs[0][:-1]
        return grad_N


def forget_in_backward(x_N: Tensor) -> Tensor:
    out_N: Tensor = _ForgetInBackward.apply(x_N)  # type: ignore[no-untyped-call]  # torch's own
    return out_N


def test_a_right_kernel_passes() -> None:
    check_kernel(double, double, [torch.tensor([1.0, -2.0, 3.0])], tolerance=1e-6)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        pytest.param(lambda x_N: 2.01 * x_N, "output differs by 5.00e-03", id="wrong value"),
        pytest.param(lambda x_N: (2 * x_N).sum()[None], r"output has shape \(1,\), expected \(3,\)", id="wrong shape"),
        pytest.param(lambda x_N: x_N + x_N.detach(), "gradient of input 0 differs", id="wrong gradient"),
        pytest.param(lambda x_N: (2 * x_N).detach(), "output is differentiable: False", id="no graph"),
        pytest.param(forget_the_last, "output differs by nan", id="unwritten output"),
        pytest.param(forget_in_backward, "gradient of input 0 differs by nan", id="unwritten gradient"),
    ],
)
def test_a_bad_kernel_is_caught(kernel: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_kernel(kernel, double, [torch.tensor([1.0, -2.0, 3.0])], tolerance=1e-6)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_gradient_that_only_one_side_has_is_caught(cut: int) -> None:
    def product(a_N: Tensor, b_N: Tensor) -> Tensor:
        return a_N * b_N

    def cut_product(a_N: Tensor, b_N: Tensor) -> Tensor:
        return a_N.detach() * b_N if cut == 0 else a_N * b_N.detach()

    inputs = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    with pytest.raises(AssertionError, match=f"input {cut} has a gradient: False for the kernel, True"):
        check_kernel(cut_product, product, inputs, tolerance=1e-6)
    with pytest.raises(AssertionError, match=f"input {cut} has a gradient: True for the kernel, False"):
        check_kernel(product, cut_product, inputs, tolerance=1e-6)


def test_poison_is_gone_afterwards_and_settings_are_as_they_were() -> None:
    def settings() -> tuple[bool, bool, bool]:
        fill: bool = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            fill,
        )

    before = settings()
    with poisoned_memory():
        assert torch.empty(3).isnan().all()
        assert torch.empty(3, dtype=torch.int32).tolist() == [2**31 - 1] * 3
    assert settings() == before
    with pytest.raises(AssertionError):
        check_kernel(lambda x_N: 3 * x_N, double, [torch.ones(2)], tolerance=1e-6)
    assert settings() == before
