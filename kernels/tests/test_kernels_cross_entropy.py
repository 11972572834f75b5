"""Kernels against float64 references."""

from __future__ import annotations

import math

import pytest
import torch
from swift_kernels import cross_entropy, token_logps, token_logps_reference
from swift_kernels.testing import check_kernel

# Rounding of the stored gradient: eps of the type, with a factor for sums of a few values.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def reference(logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits_NV, dim=-1).gather(1, labels_N[:, None]).squeeze(1)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("num_rows", "vocabulary"), [(1, 2), (7, 33), (130, 1021), (3, (1 << 20) + 5)])
def test_logps_and_gradients_match_float64(dtype: torch.dtype, num_rows: int, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    logits = (torch.randn(num_rows, vocabulary, generator=generator) * 3).to(dtype)
    labels = torch.randint(vocabulary, (num_rows,), generator=generator)
    check_kernel(token_logps, reference, [logits, labels], tolerance=TOLERANCE[dtype])


def test_uniform_logits_give_log_of_the_vocabulary() -> None:
    # By hand: each of 4 tokens has probability 1/4.
    loss = cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2]), torch.tensor([1.0, 0.5, 0.0]))
    assert loss.item() == pytest.approx(1.5 * math.log(4), rel=1e-6)


def test_rows_of_weight_zero_get_no_gradient_and_may_carry_any_label() -> None:
    logits = torch.full((2, 3), float("nan"))
    logits[0] = 0.0
    logits.requires_grad_()
    cross_entropy(logits, torch.tensor([2, -100]), torch.tensor([3.0, 0.0])).backward()
    assert logits.grad is not None
    # By hand: 3 * (softmax - onehot) with softmax 1/3 each.
    torch.testing.assert_close(logits.grad[0], torch.tensor([1.0, 1.0, -2.0]))
    assert torch.equal(logits.grad[1], torch.zeros(3))


def test_no_rows_give_zero() -> None:
    assert cross_entropy(torch.zeros(2, 3), torch.tensor([0, 0]), torch.zeros(2)).item() == 0.0


def test_reference_equals_torch_cross_entropy() -> None:
    logits, labels = torch.randn(5, 11), torch.randint(11, (5,))
    expected = -torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(token_logps_reference(logits, labels), expected)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), "do not fit"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "expected 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-100, 1]), "weight zero"),
    ],
    ids=["shape", "too large", "ignored label"],
)
def test_bad_input_is_named(logits: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_logps(logits, labels)
