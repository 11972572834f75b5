"""LoKr: the update is a Kronecker product of a small and a low-rank matrix.

W x becomes (W + (alpha / r) C (x) (B A)) x, with a factor of 0 at the start.

Source: Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation, arXiv 2309.14859,
section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import LoKrConfig


@dataclass(kw_only=True)
class LokrArgs(TunerArgs):
    """Kronecker products of small matrices, by PEFT."""

    rank: int = 8
    """Rank r of the larger factor."""
    alpha: float = 8
    """The update is scaled by alpha / rank."""
    rank_dropout: float = 0.0
    """Share of the update's rows that rest in a training step."""
    module_dropout: float = 0.0
    """Share of the adapters that rest in a training step."""
    decompose_both: bool = False
    """Take the smaller factor apart as well."""
    decompose_factor: int = -1
    """Size of the smaller factor; -1: as near to the other's as it gets."""
    use_effective_conv2d: bool = False
    """Take large kernels of convolutions apart as well."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> LoKrConfig:
        """Return the PEFT config that these options describe."""
        from peft import LoKrConfig

        return LoKrConfig(
            r=self.rank,
            alpha=self.alpha,  # type: ignore[arg-type]  # PEFT divides by it; only its annotation wants an int
            rank_dropout=self.rank_dropout,
            module_dropout=self.module_dropout,
            decompose_both=self.decompose_both,
            decompose_factor=self.decompose_factor,
            use_effective_conv2d=self.use_effective_conv2d,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
