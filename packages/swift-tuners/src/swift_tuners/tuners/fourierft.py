"""FourierFT: the update of each weight is the inverse Fourier transform of a few trained frequencies.

Source: Parameter-Efficient Fine-Tuning with Discrete Fourier Transform, arXiv 2405.03003, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import FourierFTConfig


@dataclass(kw_only=True)
class FourierFtArgs(TunerArgs):
    """Few frequencies of the update of each weight, by PEFT."""

    laws: ClassVar[Laws] = Laws(
        starts_unchanged=False, merge_tolerance=1e-4, example={"n_frequency": 20, "scaling": 10.0}
    )

    n_frequency: int = 2000
    """How many frequencies each layer has, at most its input size times its output size."""
    scaling: float = 300.0
    """Scale of the update; 300 is right for language models of the Llama kind."""
    random_loc_seed: int = 777
    """Seed that chooses which frequencies train."""
    init_weights: bool = False
    """Start with zeros, so that the output is unchanged; the paper starts with random numbers."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> FourierFTConfig:
        """Return the PEFT config that these options describe."""
        from peft import FourierFTConfig

        return FourierFTConfig(
            n_frequency=self.n_frequency,
            scaling=self.scaling,
            random_loc_seed=self.random_loc_seed,
            init_weights=self.init_weights,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
