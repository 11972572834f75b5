"""LoRA: a trainable low-rank update beside each frozen linear layer.

W x becomes W x + (alpha / r) B A x, with A: r x in, B: out x r, and B = 0 at the start: the output is unchanged.

Source: LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass(kw_only=True)
class LoraArgs(TunerArgs):
    """Low-rank adapters beside the linear layers, by PEFT."""

    rank: int = 8
    """Rank r of the update."""
    alpha: float = 32
    """The update is scaled by alpha / rank."""
    dropout: float = 0.05
    """Share of the adapter's input that is zeroed in training."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors train too."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) instead."""
    use_dora: bool = False
    """Decompose weights into magnitude and direction (DoRA)."""

    def build_config(self) -> LoraConfig:
        """Return the PEFT config that these options describe."""
        from peft import LoraConfig

        every_linear = self.target_modules == ["all-linear"]
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT divides by it; only its annotation wants an int
            lora_dropout=self.dropout,
            bias=self.bias,
            target_modules=self.target_regex or ("all-linear" if every_linear else self.target_modules),
            modules_to_save=self.modules_to_save or None,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            task_type="CAUSAL_LM",
        )
