"""Find out whether a model keeps documents apart that are joined into one row.

Joining is only right where attention, and every other mixing over time, stops at a document's border. Models differ in
that, and the wrong ones train without a word. So it is tried: another first document must not move the second
document's logits, and they must be what that document alone has.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from swift_kernels import Documents
from torch import Tensor, nn

from .document_attention import DocumentAttention

# Measured: 0 for SmolLM2-135M on a CPU, in float32 and bfloat16; 0.6 for a random Mamba, which leaks.
LEAK = 0.05
# Joined and alone, sums go another way: 1e-5 in float32, 0.06 in bfloat16 for SmolLM2-135M. Wrong positions: above 1.
_ODD = {torch.float32: 0.01, torch.float64: 1e-6}
_COARSELY_ODD = 0.4


@dataclass(frozen=True)
class Leak:
    """How far a packed document's logits move when another document before it changes.

    Attributes:
        relative: the largest change of a logit, relative to the logits' standard deviation; 0 where documents are
            perfectly apart.
        from_alone: the largest difference from the logits of the document alone, likewise.
        allowed_from_alone: what the model's number type explains of that.
    """

    relative: float
    from_alone: float
    allowed_from_alone: float

    @property
    def is_apart(self) -> bool:
        """Whether documents can be joined for this model."""
        return self.relative < LEAK and self.from_alone < self.allowed_from_alone


def measure_leak(
    model: nn.Module, *, vocabulary: int, length: int = 12, attention: DocumentAttention | None = None
) -> Leak:
    """Try whether a model keeps joined documents apart.

    Args:
        model: a causal language model that takes input_ids and position_ids.
        vocabulary: number of token ids to draw from.
        length: tokens of each of the two documents.
        attention: switches the model to attention within documents for the trial; None tries it as it is.
    """
    generator = torch.Generator().manual_seed(0)
    first, second, other = (torch.randint(vocabulary, (1, length), generator=generator) for _ in range(3))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = _logits(model, torch.arange(length)[None], second, None)
            joined, moved = (
                _logits(
                    model,
                    torch.arange(length).repeat(2)[None],
                    torch.cat([before, second], dim=1),
                    attention,
                )[:, length:]
                for before in (first, other)
            )
    finally:
        model.train(was_training)
    spread = joined.std().clamp_min(1e-12)
    return Leak(
        relative=float((joined - moved).abs().max() / spread),
        from_alone=float((joined - alone).abs().max() / spread),
        allowed_from_alone=_ODD.get(next(model.parameters()).dtype, _COARSELY_ODD),
    )


def _logits(model: nn.Module, positions_BT: Tensor, tokens_BT: Tensor, attention: DocumentAttention | None) -> Tensor:
    device = next(model.parameters()).device
    documents = Documents.from_position_ids(positions_BT[0])
    with attention.joined(documents) if attention is not None else nullcontext():
        logits: Tensor = model(
            input_ids=tokens_BT.to(device), position_ids=positions_BT.to(device), use_cache=False
        ).logits
    return logits.float()
