"""Head and loss in one against float64, on every way that a processor takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypedDict

import pytest
import torch
from swift_kernels import (
    linear_cross_entropy,
    linear_cross_entropy_rows,
    linear_logps_and_entropy,
    linear_token_logps,
    linear_token_logps_reference,
)
from swift_kernels.testing import check_kernel, poisoned_memory
from torch import Tensor


class Terms(TypedDict, total=False):
    """Options of a loss."""

    label_smoothing: float
    z_loss: float
    soft_cap: float


TERMS: dict[str, Terms] = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1},
    "z-loss": {"z_loss": 0.01},
    "capped": {"soft_cap": 3.0},
    "all": {"label_smoothing": 0.2, "z_loss": 0.02, "soft_cap": 5.0},
}
# Stored gradients round to the type; what is summed is float32. On a processor with matrix units for 16-bit types
# products also round their factors, to the same precision.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small problems have several chunks and tiles, the last of them shorter."""
    monkeypatch.setattr(linear_cross_entropy_rows, "CHUNK_FLOATS", 3000)
    monkeypatch.setattr(linear_cross_entropy_rows, "TILE_FLOATS", 2000)


def problem(num_rows: int, width: int, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rows + vocabulary)
    hidden_ND = torch.randn(num_rows, width, generator=generator)
    head_VD = torch.randn(vocabulary, width, generator=generator) * 2 / width**0.5
    labels_N = torch.randint(vocabulary, (num_rows,), generator=generator)
    bias_V = torch.randn(vocabulary, generator=generator)
    return hidden_ND.to(dtype), head_VD.to(dtype), labels_N, bias_V.to(dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("terms", list(TERMS))
@pytest.mark.parametrize(("num_rows", "width", "vocabulary"), [(1, 3, 2), (37, 24, 301), (7, 130, 1021)])
def test_logps_and_all_gradients_match_float64(
    dtype: torch.dtype, terms: str, num_rows: int, width: int, vocabulary: int
) -> None:
    hidden_ND, head_VD, labels_N, bias_V = problem(num_rows, width, vocabulary, dtype)

    def kernel(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor) -> Tensor:
        return linear_token_logps(hidden_ND, head_VD, labels_N, bias_V=bias_V, **TERMS[terms])

    def reference(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor) -> Tensor:
        return linear_token_logps_reference(hidden_ND, head_VD, labels_N, bias_V=bias_V, **TERMS[terms])

    check_kernel(kernel, reference, [hidden_ND, head_VD, bias_V], tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("terms", list(TERMS))
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_frozen_head_gives_the_same_gradient(
    dtype: torch.dtype, terms: str, biased: bool, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three threads for 37 rows make attention split the vocabulary: 301 columns do not divide.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2 * num_threads)
    hidden_ND, head_VD, labels_N, bias_V = problem(37, 24, 301, dtype)
    bias_or_none_V = bias_V if biased else None

    def kernel(hidden_ND: Tensor) -> Tensor:
        return linear_token_logps(hidden_ND, head_VD, labels_N, bias_V=bias_or_none_V, **TERMS[terms])

    def reference(hidden_ND: Tensor) -> Tensor:
        bias_V = None if bias_or_none_V is None else bias_or_none_V.double()
        return linear_token_logps_reference(hidden_ND, head_VD.double(), labels_N, bias_V=bias_V, **TERMS[terms])

    check_kernel(kernel, reference, [hidden_ND], tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("terms", list(TERMS))
@pytest.mark.parametrize("trained", [(True, False, False), (True, True, True), (False, True, False)], ids=str)
def test_gradcheck_in_float64(terms: str, trained: tuple[bool, bool, bool]) -> None:
    hidden_ND, head_VD, labels_N, bias_V = problem(4, 3, 7, torch.float64)
    inputs = [each.requires_grad_(on) for each, on in zip((hidden_ND, head_VD, bias_V), trained, strict=True)]

    def logps(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor) -> Tensor:
        return linear_token_logps(hidden_ND, head_VD, labels_N, bias_V=bias_V, **TERMS[terms])

    def loss(hidden_ND: Tensor, head_VD: Tensor, bias_V: Tensor) -> Tensor:
        weights_N = torch.tensor([1.0, 0.0, 0.5, 2.0])
        return linear_cross_entropy(hidden_ND, head_VD, labels_N, weights_N, bias_V=bias_V, **TERMS[terms])

    for function in (logps, loss):
        assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bfloat16_logps_are_as_exact_as_float32(dtype: torch.dtype) -> None:
    # Logits rounded to bfloat16 would be off by 2^-9 of logits of about 20, so by 0.04.
    hidden_ND, head_VD, labels_N, _ = problem(37, 24, 301, dtype)
    hidden_ND = hidden_ND * 5
    expected_N = linear_token_logps_reference(hidden_ND.double(), head_VD.double(), labels_N)
    for gradients in (False, True):
        logps_N = linear_token_logps(hidden_ND.clone().requires_grad_(gradients), head_VD, labels_N)
        assert logps_N.dtype == torch.float32
        torch.testing.assert_close(logps_N.detach().double(), expected_N, atol=2e-5, rtol=2e-6)


def test_uniform_head_gives_log_of_the_vocabulary() -> None:
    # By hand: each of 4 tokens has probability 1/4, entropy log 4; z-loss adds 0.5 (log 4)^2 to each.
    hidden_ND, head_VD, labels_N = torch.randn(3, 5), torch.zeros(4, 5), torch.tensor([0, 1, 2])
    weights_N = torch.tensor([1.0, 0.5, 0.0])
    assert linear_cross_entropy(hidden_ND, head_VD, labels_N, weights_N).item() == pytest.approx(1.5 * math.log(4))
    loss = linear_cross_entropy(hidden_ND, head_VD, labels_N, weights_N, z_loss=0.5)
    assert loss.item() == pytest.approx(1.5 * (math.log(4) + 0.5 * math.log(4) ** 2))
    _, entropies_N = linear_logps_and_entropy(hidden_ND, head_VD, labels_N)
    assert entropies_N.tolist() == pytest.approx([math.log(4)] * 3)


def test_rows_of_weight_zero_are_not_looked_at() -> None:
    hidden_ND, head_VD, labels_N, _ = problem(5, 8, 30, torch.float32)
    hidden_ND[3] = torch.nan
    labels_N[3] = -100
    weights_N = torch.tensor([1.0, 1.0, 0.0, 0.0, 2.0])
    head_VD.requires_grad_()
    linear_cross_entropy(hidden_ND.requires_grad_(), head_VD, labels_N, weights_N).backward()
    assert hidden_ND.grad is not None
    assert head_VD.grad is not None
    assert torch.equal(hidden_ND.grad[2:4], torch.zeros(2, 8))
    assert head_VD.grad.isfinite().all()


def test_no_rows_give_zero_and_zero_gradients() -> None:
    hidden_ND, head_VD = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = linear_cross_entropy(hidden_ND, head_VD, torch.tensor([0, 0]), torch.zeros(2))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden_ND.grad is not None
    assert head_VD.grad is not None
    assert torch.equal(hidden_ND.grad, torch.zeros(2, 3))
    assert torch.equal(head_VD.grad, torch.zeros(4, 3))


def gradient_of_the_head(expected_gradient_N: Tensor | None, gradient_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head's gradient and what it must be."""
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    ours_VD, exact_VD = head_VD.clone().requires_grad_(), head_VD.double().requires_grad_()
    with poisoned_memory():
        linear_token_logps(hidden_ND, ours_VD, labels_N, expected_gradient_N=expected_gradient_N).backward(gradient_N)
    linear_token_logps_reference(hidden_ND.double(), exact_VD, labels_N).backward(gradient_N.double())
    assert ours_VD.grad is not None
    assert exact_VD.grad is not None
    return ours_VD.grad.double(), exact_VD.grad


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda g_N: g_N, id="the same"),
        pytest.param(lambda g_N: g_N * -0.3, id="one factor"),
        pytest.param(lambda g_N: g_N * torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0001]), id="one row another factor"),
        pytest.param(lambda g_N: g_N + torch.tensor([0.0, 0.0, 1e-3, 0.0, 0.0, 0.0]), id="a row that was zero"),
        pytest.param(lambda g_N: torch.zeros(6), id="nothing expected"),
        pytest.param(lambda g_N: None, id="not told"),
    ],
)
def test_a_wrong_expectation_costs_time_but_never_the_gradient(change: Callable[[Tensor], Tensor | None]) -> None:
    gradient_N = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.25, 1.0])
    ours_VD, exact_VD = gradient_of_the_head(change(gradient_N), gradient_N)
    # float32 products of 6 rows. The smallest of the changes above moves the gradient by 1e-4.
    torch.testing.assert_close(ours_VD, exact_VD, atol=1e-6, rtol=1e-5)


def test_a_right_expectation_is_used() -> None:
    # The head is changed behind autograd's back: a second computation of the logits would see it.
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    weights_N = torch.rand(6)
    gradients = []
    for changed in (False, True):
        leaf_VD = head_VD.clone().requires_grad_()
        loss = linear_cross_entropy(hidden_ND, leaf_VD, labels_N, weights_N) / 7
        if changed:
            leaf_VD.data.zero_()
        loss.backward()
        assert leaf_VD.grad is not None
        gradients.append(leaf_VD.grad)
    assert torch.equal(*gradients)


def test_backward_twice_adds_the_same_again() -> None:
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    head_VD.requires_grad_()
    loss = linear_cross_entropy(hidden_ND.requires_grad_(), head_VD, labels_N, torch.rand(6))
    loss.backward(retain_graph=True)
    assert hidden_ND.grad is not None
    assert head_VD.grad is not None
    once = hidden_ND.grad.clone(), head_VD.grad.clone()
    loss.backward()
    assert torch.equal(hidden_ND.grad, 2 * once[0])
    torch.testing.assert_close(head_VD.grad, 2 * once[1])  # computed again, in another order of rounding


def saved_floats(loss: Tensor) -> int:
    """Return how many floats the graph keeps for the backward pass of the head."""
    nodes = [loss.grad_fn]
    for node in nodes:
        saved: tuple[Tensor | None, ...] | None = getattr(node, "saved_tensors", None)  # only our own node has them
        if saved is not None:
            return sum(each.numel() for each in saved if each is not None)
        nodes += [] if node is None else [following for following, _ in node.next_functions]
    raise AssertionError("the head is not in the graph")


def test_only_the_gradient_of_the_hidden_states_is_kept_for_a_frozen_head() -> None:
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    assert saved_floats(linear_token_logps(hidden_ND.requires_grad_(), head_VD, labels_N).sum()) == 6 * 8
    # An expectation is of no use to a frozen head.
    loss = linear_cross_entropy(hidden_ND, head_VD, labels_N, torch.ones(6))
    assert saved_floats(loss) == 6 * 8


def test_nothing_is_kept_without_gradients() -> None:
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    with torch.no_grad():
        logps_N = linear_token_logps(hidden_ND.requires_grad_(), head_VD.requires_grad_(), labels_N)
    assert not logps_N.requires_grad
    expected_N = linear_token_logps_reference(hidden_ND.double(), head_VD.double(), labels_N)
    torch.testing.assert_close(logps_N.double(), expected_N.detach(), atol=1e-5, rtol=1e-5)  # float32


@pytest.mark.parametrize("terms", list(TERMS))
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
def test_entropies_match_float64(terms: str, trained: bool, biased: bool) -> None:
    hidden_ND, head_VD, labels_N, bias_V = problem(37, 24, 301, torch.float32)
    bias_or_none_V = bias_V if biased else None
    with poisoned_memory():
        logps_N, entropies_N = linear_logps_and_entropy(
            hidden_ND.requires_grad_(trained), head_VD, labels_N, bias_V=bias_or_none_V, **TERMS[terms]
        )
    exact_NV = torch.nn.functional.linear(hidden_ND.double(), head_VD.double(), bias_V.double() if biased else None)
    cap = TERMS[terms].get("soft_cap")
    exact_NV = exact_NV if cap is None else cap * torch.tanh(exact_NV / cap)
    expected_N = torch.distributions.Categorical(logits=exact_NV.detach()).entropy()
    torch.testing.assert_close(entropies_N.double(), expected_N, atol=1e-5, rtol=1e-5)  # float32
    assert not entropies_N.requires_grad
    alone_N = linear_token_logps(hidden_ND, head_VD, labels_N, bias_V=bias_or_none_V, **TERMS[terms])
    torch.testing.assert_close(logps_N, alone_N, atol=1e-5, rtol=1e-5)  # another way may be taken, in float32 too


def test_autocast_does_not_disturb_it() -> None:
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    head_VD.requires_grad_()
    outside_N = linear_token_logps(hidden_ND, head_VD, labels_N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside_N = linear_token_logps(hidden_ND, head_VD, labels_N)
        inside_N.sum().backward()
    assert torch.equal(inside_N, outside_N)


def test_a_head_of_another_type_gets_its_gradient_in_its_type() -> None:
    # Under autocast hidden states are bfloat16, and the head that is trained float32.
    hidden_ND, head_VD, labels_N, _ = problem(6, 8, 30, torch.float32)
    hidden_ND = hidden_ND.bfloat16()
    exact_VD = head_VD.double().requires_grad_()
    linear_token_logps_reference(hidden_ND.double(), exact_VD, labels_N).sum().backward()
    head_VD.requires_grad_()
    linear_token_logps(hidden_ND, head_VD, labels_N).sum().backward()
    assert head_VD.grad is not None
    assert exact_VD.grad is not None
    assert head_VD.grad.dtype == torch.float32
    # Matrix units, where there are any, round the head to bfloat16.
    torch.testing.assert_close(head_VD.grad.double(), exact_VD.grad, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"labels_N": torch.zeros(3, dtype=torch.long)}, "do not fit", id="labels"),
        pytest.param({"head_VD": torch.zeros(4, 6)}, r"head \(4, 6\)", id="head"),
        pytest.param({"bias_V": torch.zeros(3)}, r"bias \(3,\)", id="bias"),
        pytest.param({"labels_N": torch.tensor([0, 4])}, "expected 0 to 3", id="label too large"),
        pytest.param({"labels_N": torch.tensor([0, -100])}, "weight zero", id="ignored label"),
        pytest.param({"expected_gradient_N": torch.zeros(3)}, r"expected_gradient_N \(3,\)", id="expectation"),
        pytest.param({"vocabulary_start": 4}, "vocabulary_start=4 without a group", id="start"),
        pytest.param({"label_smoothing": 1.0}, r"label_smoothing=1\.0", id="smoothing"),
        pytest.param({"z_loss": -1.0}, r"z_loss=-1\.0", id="z-loss"),
        pytest.param({"soft_cap": 0.0}, r"soft_cap=0\.0", id="cap"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "hidden_ND": torch.zeros(2, 5),
        "head_VD": torch.zeros(4, 5),
        "labels_N": torch.zeros(2, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        linear_token_logps(**{**arguments, **change})  # type: ignore[arg-type]  # one of them is bad


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"weights \(3,\) do not fit labels \(2,\)"):
        linear_cross_entropy(torch.zeros(2, 5), torch.zeros(4, 5), torch.zeros(2, dtype=torch.long), torch.zeros(3))


def test_a_bias_may_learn_above_a_frozen_head() -> None:
    hidden_ND, head_VD, labels_N, bias_V = problem(6, 8, 30, torch.float32)
    exact_V = bias_V.double().requires_grad_()
    weights_N = torch.rand(6)
    expected_N = linear_token_logps_reference(hidden_ND.double(), head_VD.double(), labels_N, bias_V=exact_V)
    (-weights_N * expected_N).sum().backward()
    linear_cross_entropy(hidden_ND, head_VD, labels_N, weights_N, bias_V=bias_V.requires_grad_()).backward()
    assert bias_V.grad is not None
    assert exact_V.grad is not None
    torch.testing.assert_close(bias_V.grad.double(), exact_V.grad, atol=1e-5, rtol=1e-5)  # float32
