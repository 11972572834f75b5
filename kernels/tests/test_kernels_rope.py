"""The rotation against float64 and transformers."""

from __future__ import annotations

import math

import pytest
import torch
from swift_kernels.rope import rope, rope_reference
from swift_kernels.testing import check_kernel
from torch import Tensor

# One rounding to the type of each product and of the sum.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def angles(num_tokens: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    half = normal(num_tokens, width // 2, seed=7) * 3
    both = torch.cat([half, half], dim=-1)
    return both.cos().to(dtype), both.sin().to(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("heads", "key_heads", "size", "rotated"), [(1, 1, 2, 2), (9, 3, 64, 64), (5, 1, 48, 20)])
def test_output_and_gradients_match_float64(
    heads: int, key_heads: int, size: int, rotated: int, dtype: torch.dtype
) -> None:
    cos, sin = angles(11, rotated, dtype)

    def kernel(q: Tensor, k: Tensor) -> Tensor:
        return torch.cat(rope(q, k, cos, sin), dim=1)

    def reference(q: Tensor, k: Tensor) -> Tensor:
        return torch.cat([rope_reference(each, cos.double(), sin.double()) for each in (q, k)], dim=1)

    inputs = [normal(11, count, size, seed=count, dtype=dtype) for count in (heads, key_heads)]
    check_kernel(kernel, reference, inputs, tolerance=TOLERANCE[dtype])


def test_gradcheck_with_halves_of_different_angles() -> None:
    cos, sin = (normal(3, 4, seed=seed).double() for seed in (1, 2))
    inputs = [normal(3, count, 6, seed=count).double().requires_grad_() for count in (2, 1)]
    assert torch.autograd.gradcheck(lambda q, k: rope(q, k, cos, sin), inputs)


def test_a_quarter_turn_swaps_the_halves() -> None:
    # By hand: cos 0, sin 1: (x1, x2) becomes (-x2, x1).
    q = torch.tensor([[[1.0, 2.0]]])
    turned, _ = rope(q, q, torch.zeros(1, 2), torch.full((1, 2), math.sin(math.pi / 2)))
    assert turned.tolist() == [[[-2.0, 1.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_transformers(dtype: torch.dtype) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    q, k = normal(13, 6, 32, seed=1, dtype=dtype), normal(13, 2, 32, seed=2, dtype=dtype)
    cos, sin = angles(13, 32, dtype)
    expected = llama.apply_rotary_pos_emb(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos[None], sin[None])
    for ours, theirs in zip(rope(q, k, cos, sin), expected, strict=True):
        # transformers rounds both products to the type before it adds them.
        tolerance = 1e-6 if dtype == torch.float32 else 2**-6
        torch.testing.assert_close(ours, theirs[0].transpose(0, 1), rtol=tolerance, atol=tolerance)


def test_queries_may_be_views_and_stay_as_they_are() -> None:
    cos, sin = angles(5, 8, torch.float32)
    whole = normal(5, 4, 8, seed=3)
    before = whole.clone()
    q, k = rope(whole[:, :3], whole[:, 3:], cos, sin)
    assert torch.equal(whole, before)
    torch.testing.assert_close(torch.cat([q, k], dim=1), rope_reference(whole, cos, sin))


@pytest.mark.parametrize(
    ("k", "cos", "message"),
    [
        (torch.zeros(4, 1, 6), torch.zeros(5, 8), r"keys \(4, 1, 6\)"),
        (torch.zeros(5, 1, 8), torch.zeros(5, 7), "even R"),
        (torch.zeros(5, 1, 8), torch.zeros(5, 10), "at most K"),
        (torch.zeros(5, 1, 8), torch.zeros(4, 8), r"cosine \(4, 8\)"),
    ],
    ids=["keys", "odd", "too wide", "tokens"],
)
def test_bad_input_is_named(k: Tensor, cos: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rope(torch.zeros(5, 2, 8), k, cos, cos)
