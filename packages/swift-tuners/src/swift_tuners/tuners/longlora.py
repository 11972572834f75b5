"""LongLoRA: training on long rows with attention in shifted groups; embedding and norms train, the rest by LoRA.

In training each token sees its group of the sequence only, in half of the heads a group shifted by half its length, so
that groups hear of each other. Outside of training attention is the model's own, full one.

Source: LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models, arXiv 2309.12307, sections 3.2 and 3.3.
Deviations: see `models.attention.shifted_attention`. LoRA is PEFT's; the checkpoint is in our own format, since PEFT
has none for weights of the host that train without a wrapper: merge to hand on a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from ._longlora import LongLoRATuner


@dataclass(kw_only=True)
class LongLoRAConfig(TunerArgs):
    """LoRA for long rows, with shifted sparse attention in training."""

    laws: ClassVar[Laws] = Laws(several=False, models=("decoder", "vlm"))

    rank: int = 8
    """Rank r of the update."""
    alpha: float = 32
    """The update is scaled by alpha / rank."""
    dropout: float = 0.05
    """Share of the adapter's input that is zeroed in training."""
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    """Layers that get an adapter: all-linear (without the head), or the ends of their names, such as q_proj v_proj."""
    group_size_ratio: float = 0.25
    """Length of a group by that of the row."""
    train_embedding: bool = True
    """Train the embedding of tokens."""
    train_norms: bool = True
    """Train the norm layers."""
    restorable: bool = True
    """Keep a copy of embedding and norms in main memory, so that the tuner can be switched off and taken off."""

    def build_config(self) -> LongLoRAConfig:
        """Return the options, which are the config."""
        return self

    def build_tuner(self, name: str) -> LongLoRATuner:
        """Return the tuner, not yet attached."""
        from ._longlora import LongLoRATuner

        return LongLoRATuner(self, name=name)
