"""IA3: learned scales on what goes into or comes out of layers.

With l = 1 at the start, y = l * (W x), or y = W (l * x) for layers of the feed-forward part. The paper scales keys,
values and the inner activations of the feed-forward part: k_proj, v_proj and down_proj of a Llama, that by its input.

Source: Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, arXiv 2205.05638,
section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..args import TunerArgs

if TYPE_CHECKING:
    from peft import IA3Config


@dataclass(kw_only=True)
class Ia3Args(TunerArgs):
    """Learned scales on activations, by PEFT."""

    feedforward_modules: list[str] = field(default_factory=list)
    """Those of the target modules whose input is scaled, such as down_proj; the others' output is."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that are scaled: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    target_regex: str | None = None
    """A regular expression over whole module names, instead of target_modules."""
    modules_to_save: list[str] = field(default_factory=list)
    """Modules that train in full and are saved with the adapter, such as lm_head."""

    def build_config(self) -> IA3Config:
        """Return the PEFT config that these options describe."""
        from peft import IA3Config

        return IA3Config(
            feedforward_modules=self.feedforward_modules,
            target_modules=self.target_regex or self.target_modules,
            modules_to_save=self.modules_to_save or None,
            task_type="CAUSAL_LM",
        )
