"""LoHa: the update is the elementwise product of two low-rank products, which has the rank r^2.

W x becomes (W + (alpha / r) (B1 A1) * (B2 A2)) x, with B2 = 0 at the start.

Source: FedPara, arXiv 2108.06098, section 2; for pictures: LyCORIS, arXiv 2309.14859.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import LoHaConfig


@dataclass(kw_only=True)
class LohaArgs(TunerArgs):
    """Elementwise products of low-rank updates, by PEFT."""

    rank: int = 8
    """Rank r of each of the two products."""
    alpha: float = 8
    """The update is scaled by alpha / rank."""
    rank_dropout: float = 0.0
    """Share of the update's rows that rest in a training step."""
    module_dropout: float = 0.0
    """Share of the adapters that rest in a training step."""
    use_effective_conv2d: bool = False
    """Take large kernels of convolutions apart as well."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> LoHaConfig:
        """Return the PEFT config that these options describe."""
        from peft import LoHaConfig

        return LoHaConfig(
            r=self.rank,
            alpha=self.alpha,  # type: ignore[arg-type]  # PEFT divides by it; only its annotation wants an int
            rank_dropout=self.rank_dropout,
            module_dropout=self.module_dropout,
            use_effective_conv2d=self.use_effective_conv2d,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
