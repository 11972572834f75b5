"""LoRA keeps the laws with its options, and on layers of other kinds."""

from __future__ import annotations

import pytest
import torch
from swift_tuners import LoraConfig, TunerConfig
from swift_tuners.testing import check_tuner, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs
from torch import nn


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_keep_the_laws(bias: str) -> None:
    # PEFT allows one adapter with biases, hence several=False.
    def make_config() -> TunerConfig:
        return LoraConfig(target_modules=["up"], bias=bias)  # type: ignore[arg-type]  # two of its literals

    check_tuner(make_config, toy_mlp, toy_mlp_inputs(), several=False)


def test_modules_trained_in_full_keep_the_laws() -> None:
    # Two adapters cannot both replace a module, hence several=False.
    def make_config() -> TunerConfig:
        return LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])

    check_tuner(make_config, lambda: tiny_decoder(tie_word_embeddings=False), tiny_decoder_inputs(), several=False)


class Embedder(nn.Module):
    """Layers of kinds other than linear."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(16, 8)
        self.conv = nn.Conv1d(8, 8, kernel_size=3, padding=1)
        self.attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map (B, T) to (B, T, 4)."""
        hidden = self.conv(self.words(ids).transpose(1, 2)).transpose(1, 2)
        attended: torch.Tensor = self.attention(hidden, hidden, hidden)[0]
        out: torch.Tensor = self.out(attended)
        return out


def make_embedder() -> Embedder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder()


@pytest.mark.parametrize("target", ["words", "conv", "all-linear"])
def test_layers_of_other_kinds_keep_the_laws(target: str) -> None:
    inputs = {"ids": torch.arange(10).reshape(2, 5)}
    check_tuner(lambda: LoraConfig(target_modules=[target], r=4), make_embedder, inputs)
