"""The norm against float64, transformers, and itself with other chunks."""

from __future__ import annotations

import sys

import pytest
import torch
from swift_kernels.rms_norm import add_rms_norm, rms_norm, rms_norm_reference
from swift_kernels.testing import check_kernel
from torch import Tensor

# Two roundings to the type: of the norm, and of its product with the weight.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (2, 5, 64), (300, 577)], ids=str)
def test_output_and_gradients_match_float64(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[rms_norm.__module__], "CHUNK", 1000)  # several chunks, the last one short
    x, weight = normal(*shape, seed=1, dtype=dtype), normal(shape[-1], seed=2, dtype=dtype)
    check_kernel(
        lambda x, w: rms_norm(x, w, 1e-2),
        lambda x, w: rms_norm_reference(x, w, 1e-2),
        [x, weight],
        tolerance=TOLERANCE[dtype],
    )


@pytest.mark.parametrize("used", ["both", "sum", "norm"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_sum_and_norm_match_float64(dtype: torch.dtype, used: str) -> None:
    def mix(total: Tensor, normed: Tensor) -> Tensor:
        return {"both": total - 2 * normed, "sum": total * 1, "norm": normed * 1}[used]

    # The norm of a sum that isn't rounded: rounding x + y to 8 bits may be half of the allowed difference.
    tensors = [normal(19, 48, seed=seed, dtype=dtype) for seed in (1, 2)]
    weight = normal(48, seed=3, dtype=dtype).requires_grad_()

    def kernel(residual: Tensor, x: Tensor) -> Tensor:
        return mix(*add_rms_norm(residual, x, weight, 1e-5))

    def reference(residual: Tensor, x: Tensor) -> Tensor:
        total = residual + x
        return mix(total, rms_norm_reference(total, weight.double(), 1e-5))

    check_kernel(kernel, reference, tensors, tolerance=2 * TOLERANCE[dtype])


def test_gradcheck() -> None:
    x, y, weight = (normal(*shape, seed=9).double().requires_grad_() for shape in ((3, 5), (3, 5), (5,)))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), [x, weight])
    assert torch.autograd.gradcheck(lambda x, y, w: add_rms_norm(x, y, w, 1e-3), [x, y, weight])


@pytest.mark.parametrize("weight_type", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_transformers(dtype: torch.dtype, weight_type: torch.dtype) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    theirs = llama.LlamaRMSNorm(96, eps=1e-5).to(weight_type)
    with torch.no_grad():
        theirs.weight.copy_(normal(96, seed=4))
    x = normal(50, 96, seed=5, dtype=dtype)
    ours, expected = rms_norm(x, theirs.weight, 1e-5), theirs(x)
    assert ours.dtype == expected.dtype
    # Another order of the float32 sum may round a value to its neighbour.
    torch.testing.assert_close(ours, expected, rtol=1e-6 if dtype == torch.float32 else 2**-7, atol=1e-6)
    if dtype == torch.bfloat16:
        assert (ours == expected).float().mean() > 0.99


def test_a_frozen_weight_gets_no_gradient_and_only_x_and_row_scales_are_kept() -> None:
    x, weight = normal(32, 64, seed=1, dtype=torch.bfloat16).requires_grad_(), torch.ones(64, dtype=torch.bfloat16)
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = rms_norm(x, weight, 1e-5)
    y.sum().backward()
    assert weight.grad is None and x.grad is not None
    assert {each.untyped_storage().data_ptr() for each in kept} >= {x.untyped_storage().data_ptr()}
    assert sum(each.numel() * each.element_size() for each in kept) == 32 * 64 * 2 + 64 * 2 + 32 * 4


def test_a_row_of_zeros_stays_zero_and_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    rms_norm(x, torch.ones(4), 1e-4).sum().backward()
    # By hand: 1 / sqrt(eps) = 100.
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((1, 4), 100.0))


def test_no_rows() -> None:
    x = torch.zeros(0, 4, requires_grad=True)
    rms_norm(x, torch.ones(4), 1e-4).sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"weight \(3,\) do not fit"):
        rms_norm(torch.zeros(2, 4), torch.zeros(3), 1e-5)
    with pytest.raises(ValueError, match=r"residual \(2, 4\) of torch.bfloat16, x \(2, 4\) of torch.float32"):
        add_rms_norm(torch.zeros(2, 4, dtype=torch.bfloat16), torch.zeros(2, 4), torch.zeros(4), 1e-5)
