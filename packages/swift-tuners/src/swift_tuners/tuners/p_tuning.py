"""P-tuning: embeddings before the input, made by a small trained network.

Source: GPT Understands, Too, arXiv 2103.10385, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import PromptEncoderConfig


@dataclass(kw_only=True)
class PTuningArgs(TunerArgs):
    """Embeddings before the input from a small network, by PEFT."""

    laws: ClassVar[Laws] = Laws(several=False, starts_unchanged=False, mergeable=False, models=("decoder", "vlm"))

    num_virtual_tokens: int = 20
    """How many trained tokens stand before the input."""
    reparameterization: Literal["MLP", "LSTM"] = "MLP"
    """Kind of the network."""
    encoder_hidden_size: int | None = None
    """Its width; by default that of the model."""
    encoder_num_layers: int = 2
    """How many layers an LSTM has."""
    encoder_dropout: float = 0.0
    """Dropout in an LSTM."""

    def build_config(self) -> PromptEncoderConfig:
        """Return the PEFT config that these options describe."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            num_virtual_tokens=self.num_virtual_tokens,
            encoder_reparameterization_type=self.reparameterization,
            encoder_hidden_size=self.encoder_hidden_size,  # type: ignore[arg-type]  # PEFT fills None in, whatever its annotation says
            encoder_num_layers=self.encoder_num_layers,
            encoder_dropout=self.encoder_dropout,
            task_type="CAUSAL_LM",
        )
