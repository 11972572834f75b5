"""OFT: the input of each layer is rotated block by block, by trained orthogonal matrices.

R = (I + Q) (I - Q)^-1 for a skew-symmetric Q, which is 0 at the start.

Source: Controlling Text-to-Image Diffusion by Orthogonal Finetuning, arXiv 2306.07280, section 3. Rotating inputs, and
the series for the inverse: Orthogonal Finetuning Made Scalable, arXiv 2506.19847.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import OFTConfig


@dataclass(kw_only=True)
class OftArgs(TunerArgs):
    """Rotations of the inputs, by PEFT."""

    laws: ClassVar[Laws] = Laws(start_tolerance=1e-6, example={"block_size": 4})

    block_size: int = 32
    """Size of the blocks that are rotated; must divide each layer's input size. 0: rank says it."""
    rank: int = 0
    """How many blocks each layer has, instead of block_size."""
    dropout: float = 0.0
    """Share of the blocks that rest in a training step."""
    coft: bool = False
    """Keep the rotations near the identity."""
    eps: float = 6e-5
    """With coft: how near."""
    block_share: bool = False
    """All blocks of a layer share one rotation."""
    use_cayley_neumann: bool = True
    """Take the first terms of a series for the inverse: faster, and nearly orthogonal."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that are rotated: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> OFTConfig:
        """Return the PEFT config that these options describe."""
        from peft import OFTConfig

        return OFTConfig(
            oft_block_size=self.block_size,
            r=self.rank,
            module_dropout=self.dropout,
            coft=self.coft,
            eps=self.eps,
            block_share=self.block_share,
            use_cayley_neumann=self.use_cayley_neumann,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
