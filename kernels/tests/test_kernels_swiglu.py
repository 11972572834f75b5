"""The gate against float64 and torch."""

from __future__ import annotations

import pytest
import torch
from swift_kernels.swiglu import swiglu, swiglu_reference
from swift_kernels.testing import check_kernel
from torch import Tensor

# Two roundings to the type: of silu, and of the product.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", [(1,), (7, 33), (2, 5, 64)], ids=str)
def test_output_and_gradients_match_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [normal(*shape, seed=seed, dtype=dtype) * 3 for seed in (1, 2)]
    check_kernel(swiglu, swiglu_reference, inputs, tolerance=TOLERANCE[dtype])


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(swiglu, [normal(3, 4, seed=s).double().requires_grad_() for s in (1, 2)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_torch_bit_for_bit(dtype: torch.dtype) -> None:
    gate, up, weight = (normal(40, 70, seed=seed, dtype=dtype) for seed in (1, 2, 3))
    leaves = [gate.requires_grad_(), up.requires_grad_()]
    ours, expected = swiglu(gate, up), swiglu_reference(gate, up)
    assert torch.equal(ours, expected)
    grads = [torch.autograd.grad(each, leaves, weight) for each in (ours, expected)]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*grads, strict=True))


@pytest.mark.parametrize("frozen", [0, 1])
def test_an_input_without_gradient_gets_none(frozen: int) -> None:
    inputs = [normal(4, 5, seed=seed).requires_grad_(seed != frozen) for seed in (0, 1)]
    swiglu(*inputs).sum().backward()
    assert inputs[frozen].grad is None and inputs[1 - frozen].grad is not None


def test_only_the_inputs_are_kept() -> None:
    gate, up = normal(4, 5, seed=1).requires_grad_(), normal(4, 5, seed=2).requires_grad_()
    kept: set[int] = set()

    def note(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        swiglu(gate, up)
    assert kept == {gate.untyped_storage().data_ptr(), up.untyped_storage().data_ptr()}


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"gate \(2, 4\) of torch.float32 and up \(2, 3\)"):
        swiglu(torch.zeros(2, 4), torch.zeros(2, 3))
