"""Prefix tuning: trained keys and values that every attention layer sees before those of the input.

Source: Prefix-Tuning: Optimizing Continuous Prompts for Generation, arXiv 2101.00190, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import PrefixTuningConfig


@dataclass(kw_only=True)
class PrefixTuningArgs(TunerArgs):
    """Trained keys and values before those of the input, by PEFT."""

    laws: ClassVar[Laws] = Laws(several=False, starts_unchanged=False, mergeable=False, models=("decoder", "vlm"))

    num_virtual_tokens: int = 20
    """How many trained tokens stand before the input."""
    projection: bool = False
    """Train a network that makes the keys and values, as the paper does."""
    encoder_hidden_size: int | None = None
    """With projection: width of that network; by default that of the model."""

    def build_config(self) -> PrefixTuningConfig:
        """Return the PEFT config that these options describe."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            num_virtual_tokens=self.num_virtual_tokens,
            prefix_projection=self.projection,
            encoder_hidden_size=self.encoder_hidden_size,  # type: ignore[arg-type]  # PEFT fills None in, whatever its annotation says
            task_type="CAUSAL_LM",
        )
