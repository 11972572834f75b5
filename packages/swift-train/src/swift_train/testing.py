"""What every algorithm must hold, so that the trainer may split a global batch as it likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from swift_data.packing import collate
from swift_templates.encoded import Encoded
from swift_templates.template import Template

from .algorithm import Algorithm, WeightedTokens

Row = TypeVar("Row")


def check_algorithm(algorithm: Algorithm[Row], rows: Sequence[Row], template: Template) -> None:
    """Hold an algorithm to the laws of the contract.

    Args:
        algorithm: under test.
        rows: of the kind that it takes, at least two.
        template: of any model.

    Raises:
        AssertionError: a law is broken; the message names it.
    """
    samples = [sample for row in rows for sample in algorithm.encode(row, template)]
    assert len(samples) >= 2, "rows become sequences"
    again = [sample for row in rows for sample in algorithm.encode(row, template)]
    assert [each.input_ids.tolist() for each in samples] == [each.input_ids.tolist() for each in again], (
        "the same row becomes the same sequences"
    )
    assert all(sample.num_trained for sample in samples), "a sequence has trained tokens"
    _check_sums(algorithm, samples)
    _check_weights(algorithm, samples)


def _check_sums(algorithm: Algorithm[Row], samples: list[Encoded]) -> None:
    """A batch's loss and denominator are the sums of its sequences'."""
    together, apart = _loss(algorithm, samples), [_loss(algorithm, [each], start=at) for at, each in enumerate(samples)]
    torch.testing.assert_close(together[0], torch.stack([loss for loss, _ in apart]).sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together[1], torch.cat([gradient for _, gradient in apart]), rtol=1e-4, atol=1e-6)
    whole = algorithm.denominator(collate(samples))
    parts = sum(algorithm.denominator(collate([each])) for each in samples)
    assert abs(whole - parts) < 1e-4 * whole, "denominators add up"
    assert whole > 0, "a denominator is positive"


def _check_weights(algorithm: Algorithm[Row], samples: list[Encoded]) -> None:
    """A token of weight zero, as every filler has, adds nothing."""
    tokens = _tokens(samples)
    filler = WeightedTokens(
        logps_N=tokens.logps_N, weights_N=torch.zeros_like(tokens.weights_N), sequences_N=tokens.sequences_N
    )
    loss = algorithm.loss(filler)
    assert loss.shape == () and loss.dtype == torch.float32, "a loss is a float32 scalar"
    assert loss.item() == 0, "tokens without weight have no loss"
    loss.backward()
    assert tokens.logps_N.grad is not None and not tokens.logps_N.grad.any(), "tokens without weight have no gradient"


def _loss(algorithm: Algorithm[Row], samples: list[Encoded], *, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = _tokens(samples, start=start)
    loss = algorithm.loss(tokens)
    loss.backward()
    assert tokens.logps_N.grad is not None, "a loss depends on the log-probabilities"
    return loss.detach(), tokens.logps_N.grad


def _tokens(samples: list[Encoded], *, start: int = 0) -> WeightedTokens:
    """Return the weighted tokens, with made-up log-probabilities that depend on a sequence's number only."""
    logps, weights, sequences = [], [], []
    for number, sample in enumerate(samples):
        weight = torch.from_numpy(sample.loss_scale[sample.loss_scale != 0])
        generator = torch.Generator().manual_seed(start + number)
        logps.append(-5 * torch.rand(len(weight), generator=generator))
        weights.append(weight)
        sequences.append(torch.full((len(weight),), number))
    return WeightedTokens(
        logps_N=torch.cat(logps).requires_grad_(), weights_N=torch.cat(weights), sequences_N=torch.cat(sequences)
    )
