"""Find out whether a model keeps documents apart that are joined into one row.

Packing is only right where attention, and every other mixing over time, stops at a document's border. Models differ in
that, and the wrong ones train without a word. So it is tried: another first document must not move the second
document's logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Measured: 0 for SmolLM2-135M on a CPU, in float32 and bfloat16; 0.6 for a random Mamba, which leaks.
LEAK = 0.05


@dataclass(frozen=True)
class Leak:
    """How far a packed document's logits move when another document before it changes.

    Attributes:
        relative: the largest change of a logit, relative to the logits' standard deviation; 0 where documents are
        perfectly apart.
    """

    relative: float

    @property
    def is_apart(self) -> bool:
        """Whether documents can be joined for this model."""
        return self.relative < LEAK


def measure_leak(model: nn.Module, *, vocabulary: int, length: int = 12) -> Leak:
    """Try whether a model keeps joined documents apart.

    Args:
        model: a causal language model that takes input_ids and position_ids.
        vocabulary: number of token ids to draw from.
        length: tokens of each of the two documents.
    """
    generator = torch.Generator().manual_seed(0)
    first, second, other = (torch.randint(vocabulary, (1, length), generator=generator) for _ in range(3))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = _logits_of_second(model, first, second)
            moved = _logits_of_second(model, other, second)
    finally:
        model.train(was_training)
    return Leak(float((logits - moved).abs().max() / logits.std().clamp_min(1e-12)))


def _logits_of_second(model: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    device = next(model.parameters()).device
    positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None]
    logits: Tensor = model(
        input_ids=torch.cat([first, second], dim=1).to(device), position_ids=positions.to(device), use_cache=False
    ).logits
    return logits[:, first.shape[1] :].float()
