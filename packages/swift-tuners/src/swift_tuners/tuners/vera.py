"""VeRA: trained vectors around two random matrices that all layers share and nobody trains.

W x becomes W x + l_b * B (l_d * (A x)), with A: r x in, B: out x r and l_b = 0 at the start.

Source: VeRA: Vector-based Random Matrix Adaptation, arXiv 2310.11454, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import VeraConfig


@dataclass(kw_only=True)
class VeraArgs(TunerArgs):
    """Vectors around shared random matrices, by PEFT."""

    rank: int = 256
    """Rank r of the shared matrices."""
    dropout: float = 0.0
    """Share of the adapter's input that is zeroed in training."""
    d_initial: float = 0.1
    """Value of l_d at the start."""
    projection_prng_key: int = 0
    """Seed of the shared matrices."""
    save_projection: bool = True
    """Save the shared matrices too; without them, they are drawn from the seed again, as PEFT on that machine does."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> VeraConfig:
        """Return the PEFT config that these options describe."""
        from peft import VeraConfig

        return VeraConfig(
            r=self.rank,
            vera_dropout=self.dropout,
            d_initial=self.d_initial,
            projection_prng_key=self.projection_prng_key,
            save_projection=self.save_projection,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
