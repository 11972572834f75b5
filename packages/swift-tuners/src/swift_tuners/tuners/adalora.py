"""AdaLoRA: a low-rank update B E A whose ranks are cut where they matter least, in the course of training.

Source: AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, arXiv 2303.10512, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import AdaLoraConfig


@dataclass(kw_only=True)
class AdaLoraArgs(TunerArgs):
    """Low-rank adapters that share out their ranks among the layers in training, by PEFT."""

    init_r: int = 12
    """Rank of each layer at the start."""
    target_r: int = 8
    """Mean rank of all layers at the end."""
    total_step: int = 1000
    """Optimizer steps of the whole run, which the schedule is spread over."""
    tinit: int = 0
    """Steps at the start before ranks are cut."""
    tfinal: int = 0
    """Steps at the end after the last cut."""
    delta_t: int = 1
    """Ranks are cut every so many steps."""
    beta1: float = 0.85
    """How smooth the importance of a rank is over the steps."""
    beta2: float = 0.85
    """How smooth the uncertainty of that importance is."""
    orth_reg_weight: float = 0.5
    """Weight in the loss of how far A and B are from orthogonal."""
    alpha: float = 32
    """The update is scaled by alpha / init_r."""
    dropout: float = 0.05
    """Share of the adapter's input that is zeroed in training."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> AdaLoraConfig:
        """Return the PEFT config that these options describe.

        Raises:
            UnsupportedConfig: the schedule leaves no step for cutting ranks.
        """
        from peft import AdaLoraConfig

        from ..errors import UnsupportedConfig

        try:
            return AdaLoraConfig(
                init_r=self.init_r,
                target_r=self.target_r,
                total_step=self.total_step,
                tinit=self.tinit,
                tfinal=self.tfinal,
                deltaT=self.delta_t,
                beta1=self.beta1,
                beta2=self.beta2,
                orth_reg_weight=self.orth_reg_weight,
                lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT divides it; only its annotation wants an int
                lora_dropout=self.dropout,
                target_modules=self.target_regex or self.target_modules,
                modules_to_save=self.modules_to_save or None,
                task_type="CAUSAL_LM",
            )
        except ValueError as error:
            raise UnsupportedConfig(
                f"AdaLoRA with total_step={self.total_step}, tinit={self.tinit} and tfinal={self.tfinal}: {error}"
            ) from error
