"""Estimate a run's peak memory before it starts, and read it after.

Weights, gradients and optimizer states are counted from the model itself. Activations are counted for a decoder from
its sizes: what each layer keeps for the backward pass, per token.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import psutil
import torch
from torch import nn
from transformers import PreTrainedConfig

MIB = 1024 * 1024

_SHARE_OF_FREE = 0.7
"""An estimate may be a quarter too low, and others want memory too."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Where a run's memory goes, in MiB; activations_mib is None where the model's sizes are not known."""

    weights_mib: float
    gradients_mib: float
    optimizer_mib: float
    activations_mib: float | None

    @property
    def total_mib(self) -> float:
        """Sum of all parts that are known."""
        return self.weights_mib + self.gradients_mib + self.optimizer_mib + (self.activations_mib or 0.0)


def estimate_memory(
    model: nn.Module, *, tokens: int, trained_tokens: int, checkpointing: bool, optimizer_bytes: int | None = None
) -> MemoryEstimate:
    """Estimate the memory of one training step on one process.

    Args:
        model: with its tuners attached.
        tokens: most tokens in one forward pass.
        trained_tokens: how many of them carry a weight.
        checkpointing: whether activations inside layers are recomputed.
        optimizer_bytes: of the optimizer's state; None counts Adam's two float32 moments.
    """
    parameters = list(model.parameters())
    trained = [each for each in parameters if each.requires_grad]
    return MemoryEstimate(
        weights_mib=sum(each.numel() * each.element_size() for each in parameters) / MIB,
        gradients_mib=sum(each.numel() * each.element_size() for each in trained) / MIB,
        optimizer_mib=(8 * sum(each.numel() for each in trained) if optimizer_bytes is None else optimizer_bytes) / MIB,
        activations_mib=_activations_mib(model, tokens, trained_tokens, checkpointing),
    )


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a run's step takes, and whether it computes activations again to take that little."""

    estimate: MemoryEstimate
    checkpointing: bool


def plan_memory(
    model: nn.Module,
    *,
    tokens: int,
    trained_tokens: int,
    checkpointing: bool | None,
    optimizer_bytes: int | None = None,
) -> MemoryPlan:
    """Estimate a step's memory, and choose checkpointing only where a step would not fit without it.

    Args:
        model: with its tuners attached.
        tokens: most tokens in one forward pass.
        trained_tokens: how many of them carry a weight.
        checkpointing: what the user wants; None lets the estimate decide.
        optimizer_bytes: see `estimate_memory`.
    """
    estimates = {
        again: estimate_memory(
            model,
            tokens=tokens,
            trained_tokens=trained_tokens,
            checkpointing=again,
            optimizer_bytes=optimizer_bytes,
        )
        for again in (False, True)
    }
    if checkpointing is None:
        # The weights are there already.
        needed = estimates[False].total_mib - estimates[False].weights_mib
        checkpointing = needed > _SHARE_OF_FREE * read_free_mib()
    return MemoryPlan(estimate=estimates[checkpointing], checkpointing=checkpointing)


def read_free_mib() -> float:
    """Return the memory that this process can still take: of its GPU if it has one, else of the machine."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return free / MIB
    return psutil.virtual_memory().available / MIB


def read_peak_mib() -> float:
    """Return the most memory that this process has held so far: on its GPU if it has one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def _activations_mib(model: nn.Module, tokens: int, trained_tokens: int, checkpointing: bool) -> float | None:
    config = getattr(model, "config", None)
    text = config.get_text_config() if isinstance(config, PreTrainedConfig) else config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    sizes = [size for name in names if isinstance(size := getattr(text, name, None), int)]
    if len(sizes) != len(names):
        return None
    hidden, inner, layers, vocabulary = sizes
    width = next(model.parameters()).element_size()
    # Kept per token by a gated decoder layer: norms' inputs and outputs, q, k, v, attention's output, and the
    # gate, its activation, the up projection and their product; a low-rank branch keeps its own copy of each input.
    layer = tokens * (10 * hidden + 4 * inner) * width
    kept = layer + layers * tokens * hidden * width if checkpointing else layers * layer
    # Logits, their gradient, and one float32 chunk between.
    return (kept + 2 * trained_tokens * vocabulary * width) / MIB
