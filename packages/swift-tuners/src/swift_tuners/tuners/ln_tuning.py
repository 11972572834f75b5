"""LN tuning: the norms of the model train, and nothing else.

Source: Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning, arXiv 2312.11420, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import LNTuningConfig


@dataclass(kw_only=True)
class LnTuningArgs(TunerArgs):
    """Copies of the norms that train, by PEFT."""

    laws: ClassVar[Laws] = Laws(several=False, models=("conv", "decoder", "vlm"))

    target_modules: list[str] = field(default_factory=list)
    """Norms that train, by the ends of their names; by default, every norm of the language side."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Other modules that train in full and are saved with the norms, such as lm_head."""

    def build_config(self) -> LNTuningConfig:
        """Return the PEFT config that these options describe."""
        from peft import LNTuningConfig

        return LNTuningConfig(
            target_modules=self.target_regex or self.target_modules or None,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
