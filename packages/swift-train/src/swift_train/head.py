"""The last layer, computed only for tokens that carry a weight, together with their log-probabilities.

A model's head turns every hidden state into a row of logits, most of which nobody uses. While a tap is open, the head
module computes the log-probabilities of the wanted labels instead: inside its own forward, so that whatever gathers its
weight for a forward pass (FSDP, ZeRO-3) has gathered it. Whether that is the same as the model's own logits is tried,
not assumed: models scale or cap their logits after the head.

B rows, T tokens, N wanted tokens, D model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from swift_kernels import linear_token_logps
from torch import Tensor, nn
from transformers import PreTrainedConfig

# Tokens of the trial, and how far logits may be apart: bfloat16 rounds each to 2^-8 of its size, and some models round
# several times.
_TRIAL_TOKENS = 8
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
_COARSE_TOLERANCE = 3e-2


@dataclass(frozen=True, kw_only=True)
class WantedTokens:
    """Which tokens' log-probabilities the next forward pass is to return.

    Attributes:
        places_N: int64, index into the flattened (B * T) tokens of each one that stands *before* a wanted token.
        labels_N: int64, the wanted tokens.
        gradient_N: what the loss's gradient will be for each, up to one factor; None where that is not known.
    """

    places_N: Tensor
    labels_N: Tensor
    gradient_N: Tensor | None = None


@dataclass
class HeadTap:
    """Stands in for a model's head during training; see `find_head`.

    Attributes:
        head: the model's last linear layer.
        scale: factor on its logits.
        soft_cap: logits are bounded by cap * tanh(logits / cap); None leaves them.
    """

    head: nn.Linear
    scale: float = 1.0
    soft_cap: float | None = None
    _wanted: WantedTokens | None = field(default=None, init=False)
    _logps_N: Tensor | None = field(default=None, init=False)

    @contextmanager
    def open(self, wanted: WantedTokens) -> Iterator[HeadTap]:
        """Let the head answer with log-probabilities while the block runs; `take` returns them."""
        self._wanted = wanted
        self.head.forward = self._forward  # type: ignore[method-assign, assignment]  # of this instance, for a while
        try:
            yield self
        finally:
            del self.head.forward
            self._wanted = self._logps_N = None

    def take(self) -> Tensor:
        """Return the log-probabilities of the wanted tokens, float32 (N,)."""
        assert self._logps_N is not None, "the model has called its head"
        return self._logps_N

    def _forward(self, hidden_BTD: Tensor) -> Tensor:
        wanted = self._wanted
        assert wanted is not None, "the tap is open"
        hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1]).index_select(0, wanted.places_N)
        self._logps_N = linear_token_logps(
            hidden_ND if self.scale == 1 else hidden_ND * self.scale,
            self.head.weight,
            wanted.labels_N,
            bias_V=self.head.bias,
            soft_cap=self.soft_cap,
            expected_gradient_N=wanted.gradient_N,
        )
        # Whatever the model does with its logits afterwards, it does to this.
        return self._logps_N[None, :, None]


def find_head(model: nn.Module, *, vocabulary: int) -> HeadTap | None:
    """Find a model's head and what is done to its logits, and try whether that is all.

    Args:
        model: a causal language model of transformers, with its tuners.
        vocabulary: number of token ids to draw from.

    Returns:
        None where the model has no plain linear head, or its logits are made in a way of their own.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    if type(head) is not nn.Linear:
        return None
    logits_TV, hidden_TD = _trial(model, head, vocabulary)
    return None if hidden_TD is None else _fit_head(model, head, logits_TV, hidden_TD)


@torch.no_grad()
def _fit_head(model: nn.Module, head: nn.Linear, logits_TV: Tensor, hidden_TD: Tensor) -> HeadTap | None:
    plain_TV = nn.functional.linear(hidden_TD.float(), head.weight.float(), _float_or_none(head.bias))
    tolerance = _TOLERANCE.get(head.weight.dtype, _COARSE_TOLERANCE)
    for scale, soft_cap in _candidates(model, logits_TV, plain_TV):
        expected_TV = plain_TV * scale
        if soft_cap is not None:
            expected_TV = soft_cap * torch.tanh(expected_TV / soft_cap)
        if float((expected_TV - logits_TV).abs().max()) <= tolerance * float(logits_TV.abs().max()):
            # A bias is added after the scaling.
            return HeadTap(head, scale, soft_cap) if scale == 1 or head.bias is None else None
    return None


def _trial(model: nn.Module, head: nn.Linear, vocabulary: int) -> tuple[Tensor, Tensor | None]:
    """Return a model's logits for some tokens, and what went into its head."""
    seen: list[Tensor] = []
    was_training = model.training
    model.eval()
    watch = head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    tokens = torch.randint(vocabulary, (1, _TRIAL_TOKENS), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=tokens.to(head.weight.device), use_cache=False).logits
    finally:
        watch.remove()
        model.train(was_training)
    fits = len(seen) == 1 and seen[0].shape[:-1] == tokens.shape
    return logits[0].float(), seen[0][0] if fits else None


def _candidates(model: nn.Module, logits_TV: Tensor, plain_TV: Tensor) -> list[tuple[float, float | None]]:
    """Return the scales and caps that may lie between the head and the logits."""
    found: list[tuple[float, float | None]] = [(1.0, None)]
    config = getattr(model, "config", None)
    text = config.get_text_config() if isinstance(config, PreTrainedConfig) else config
    cap = getattr(text, "final_logit_softcapping", None)
    if isinstance(cap, int | float) and cap > 0:
        found.append((1.0, float(cap)))
    # Least squares: the one factor that fits best.
    scale = float((logits_TV * plain_TV).sum() / (plain_TV * plain_TV).sum().clamp_min(1e-30))
    return [*found, (scale, None)]


def _float_or_none(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
