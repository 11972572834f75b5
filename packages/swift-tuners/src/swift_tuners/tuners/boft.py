"""BOFT: each weight is rotated, by a product of sparse orthogonal matrices as in a butterfly network.

Source: Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization, arXiv 2311.06243, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import BOFTConfig


@dataclass(kw_only=True)
class BoftArgs(TunerArgs):
    """Butterflies of rotations of the weights, by PEFT."""

    laws: ClassVar[Laws] = Laws(start_tolerance=1e-6)

    block_size: int = 4
    """Size of the blocks that are rotated; must divide each layer's input size. 0: block_num says it."""
    block_num: int = 0
    """How many blocks each layer has, instead of block_size."""
    n_butterfly_factor: int = 1
    """How many sparse rotations follow each other; more mix more."""
    dropout: float = 0.0
    """Share of the blocks that rest in a training step."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that are rotated: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> BOFTConfig:
        """Return the PEFT config that these options describe."""
        from peft import BOFTConfig

        return BOFTConfig(
            boft_block_size=self.block_size,
            boft_block_num=self.block_num,
            boft_n_butterfly_factor=self.n_butterfly_factor,
            boft_dropout=self.dropout,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
