"""Supervised fine-tuning: the weighted mean of the answers' cross entropy.

L = - sum_n w_n log p(token_n) / sum_n w_n, over all trained tokens of the global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..algorithm import Algorithm, WeightedTokens

if TYPE_CHECKING:
    from swift_data.rows import ChatRow
    from swift_templates.encoded import Encoded
    from swift_templates.errors import SwiftTemplatesError
    from swift_templates.template import Template
    from torch import Tensor


class Sft(Algorithm["ChatRow"]):
    """Supervised fine-tuning on conversations."""

    def encode(self, row: ChatRow, template: Template) -> list[Encoded]:
        """Return the row's conversation as the template trains it: one sequence, or one per branch."""
        return template.encode(row.conversation)

    def encode_many(self, rows: Sequence[ChatRow], template: Template) -> list[list[Encoded] | SwiftTemplatesError]:
        """Do what `encode` does for several rows, in less time."""
        return template.encode_many(row.conversation for row in rows)

    def loss(self, tokens: WeightedTokens) -> Tensor:
        """Return the summed weighted cross entropy, in nats."""
        return -(tokens.weights_N * tokens.logps_N).sum()

    def gradient_of_logps(self, weights_N: Tensor) -> Tensor:
        """Return the gradient: minus the weights."""
        return -weights_N
