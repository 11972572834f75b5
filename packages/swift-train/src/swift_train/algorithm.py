"""What the trainer asks of an algorithm, and all it knows of one.

Every objective becomes sequences with one weight per token: an algorithm says how a row becomes such sequences and what
the loss is, given the log-probability of each token that carries a weight. It never sees a model, an optimizer or a
process group.

N tokens that carry a weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swift_templates.errors import SwiftTemplatesError
from swift_templates.registry import Registry

if TYPE_CHECKING:
    from swift_data.packing import Batch
    from swift_templates.encoded import Encoded
    from swift_templates.template import Template
    from torch import Tensor

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class WeightedTokens:
    """The tokens of one micro-batch that carry a weight.

    Attributes:
        logps_N: float32, log-probability in nats of each token, with its gradient.
        weights_N: float32, the weight of each token.
        sequences_N: int64, which sequence of the micro-batch each token belongs to.
    """

    logps_N: Tensor
    weights_N: Tensor
    sequences_N: Tensor


class Algorithm(ABC, Generic[Row]):
    """How rows of one kind become sequences, and what is minimised over them."""

    @abstractmethod
    def encode(self, row: Row, template: Template) -> list[Encoded]:
        """Turn one row into sequences of tokens with weights."""

    def encode_many(self, rows: Sequence[Row], template: Template) -> list[list[Encoded] | SwiftTemplatesError]:
        """Turn several rows into sequences; errors stand in the places of results.

        By default row by row. Where rows are conversations, `template.encode_many` is quicker.
        """
        results: list[list[Encoded] | SwiftTemplatesError] = []
        for row in rows:
            try:
                results.append(self.encode(row, template))
            except SwiftTemplatesError as error:
                results.append(error)
        return results

    @abstractmethod
    def loss(self, tokens: WeightedTokens) -> Tensor:
        """Return the *sum* of the loss over a micro-batch, a float32 scalar.

        The trainer divides it by the sum of `denominator` over the whole global batch, so the result does not depend on
        how a batch is split into micro-batches, packs or processes.
        """

    def gradient_of_logps(self, weights_N: Tensor) -> Tensor | None:
        """Return the loss's gradient with respect to `logps_N`, up to one factor; None where it is not known before.

        Where it is known, as for a weighted sum, a head that trains has its gradient made in the forward pass.
        """
        return None

    def denominator(self, batch: Batch) -> float:
        """Return what a micro-batch adds to the divisor of the loss: by default its summed weights."""
        return float(batch.loss_scale[:, 1:].sum())


ALGORITHMS: Registry[Algorithm[Any]] = Registry(kind="algorithm", package="swift_train.algorithms", base=Algorithm)
