"""Prompt tuning: trained embeddings that stand before the input.

Source: The Power of Scale for Parameter-Efficient Prompt Tuning, arXiv 2104.08691, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..laws import Laws

if TYPE_CHECKING:
    from peft import PromptTuningConfig


@dataclass(kw_only=True)
class PromptTuningArgs(TunerArgs):
    """Trained embeddings before the input, by PEFT."""

    laws: ClassVar[Laws] = Laws(several=False, starts_unchanged=False, mergeable=False, models=("decoder", "vlm"))

    num_virtual_tokens: int = 20
    """How many trained tokens stand before the input."""
    init_text: str | None = None
    """A text to start from; by default, random numbers."""
    tokenizer_name_or_path: str | None = None
    """With init_text: the folder of the model's tokenizer."""

    def build_config(self) -> PromptTuningConfig:
        """Return the PEFT config that these options describe."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            num_virtual_tokens=self.num_virtual_tokens,
            prompt_tuning_init="RANDOM" if self.init_text is None else "TEXT",
            prompt_tuning_init_text=self.init_text,
            tokenizer_name_or_path=self.tokenizer_name_or_path,
            task_type="CAUSAL_LM",
        )
