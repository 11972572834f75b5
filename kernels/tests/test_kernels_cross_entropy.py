"""Kernels against float64 references."""

from __future__ import annotations

import functools
import math
from typing import TypedDict

import pytest
import torch
from swift_kernels import cross_entropy, token_logps, token_logps_reference
from swift_kernels.testing import check_kernel

# Rounding of the stored gradient: eps of the type, with a factor for sums of a few values.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Terms(TypedDict, total=False):
    """Options of a loss."""

    label_smoothing: float
    z_loss: float
    soft_cap: float


TERMS: dict[str, Terms] = {
    "smoothed": {"label_smoothing": 0.1},
    "z-loss": {"z_loss": 0.01},
    "capped": {"soft_cap": 3.0},
    "all": {"label_smoothing": 0.2, "z_loss": 0.02, "soft_cap": 5.0},
}


def reference(logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits_NV, dim=-1).gather(1, labels_N[:, None]).squeeze(1)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("num_rows", "vocabulary"), [(1, 2), (7, 33), (130, 1021), (3, (1 << 20) + 5)])
def test_logps_and_gradients_match_float64(dtype: torch.dtype, num_rows: int, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    logits = (torch.randn(num_rows, vocabulary, generator=generator) * 3).to(dtype)
    labels = torch.randint(vocabulary, (num_rows,), generator=generator)
    check_kernel(token_logps, reference, [logits, labels], tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("terms", list(TERMS))
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("num_rows", "vocabulary"), [(7, 33), (3, (1 << 19) + 5)])
def test_smoothing_z_loss_and_cap_match_float64(terms: str, dtype: torch.dtype, num_rows: int, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    logits = (torch.randn(num_rows, vocabulary, generator=generator) * 3).to(dtype)
    labels = torch.randint(vocabulary, (num_rows,), generator=generator)
    kernel, exact = (functools.partial(each, **TERMS[terms]) for each in (token_logps, token_logps_reference))
    check_kernel(kernel, exact, [logits, labels], tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("terms", list(TERMS))
def test_gradcheck_in_float64(terms: str) -> None:
    logits = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([0, 6, 3, 3]), torch.tensor([1.0, 0.0, 0.5, -2.0])
    assert torch.autograd.gradcheck(lambda logits: token_logps(logits, labels, **TERMS[terms]), [logits])
    assert torch.autograd.gradcheck(lambda logits: cross_entropy(logits, labels, weights, **TERMS[terms]), [logits])


def test_terms_by_hand() -> None:
    # Logits 0 and log 3: L = log 4, logp = log 1/4 and log 3/4.
    logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([1])
    smoothed = token_logps(logits, labels, label_smoothing=0.2).item()
    assert smoothed == pytest.approx(0.8 * math.log(3 / 4) + 0.2 * (math.log(1 / 4) + math.log(3 / 4)) / 2, rel=1e-6)
    plain = math.log(3 / 4)
    assert token_logps(logits, labels, z_loss=0.1).item() == pytest.approx(plain - 0.1 * math.log(4) ** 2, rel=1e-6)
    # The cap turns log 3 into 2 tanh(log(3) / 2) = 2 * 1/2 = 1.
    capped = token_logps(logits, labels, soft_cap=2.0).item()
    assert capped == pytest.approx(1 - math.log(1 + math.e), rel=1e-6)


def test_smoothing_equals_torch() -> None:
    logits, labels = torch.randn(5, 11), torch.randint(11, (5,))
    expected = -torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(token_logps(logits, labels, label_smoothing=0.3), expected)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing=1\.0; expected at least 0"),
        ({"z_loss": math.nan}, "z_loss=nan; expected a finite number"),
        ({"soft_cap": -30.0}, r"soft_cap=-30\.0; expected a positive number"),
    ],
    ids=["smoothing", "z-loss", "cap"],
)
def test_a_term_out_of_range_is_named(terms: Terms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_logps(torch.zeros(1, 2), torch.tensor([0]), **terms)


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
