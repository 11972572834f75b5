"""Which class carries a config of PEFT: `PeftTuner`, or a subclass for methods that need more than an injection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peft import AdaLoraConfig, LNTuningConfig, OFTConfig, OSFConfig

from .peft_adalora import AdaLoraTuner
from .peft_lora_plus import read_lora_plus
from .peft_norms import NormTuner
from .peft_oft import OftTuner
from .peft_osf import OsfTuner
from .peft_starts import SavedStart, StartedLoraTuner, start_of
from .peft_tuner import PeftTuner, read_peft_config

if TYPE_CHECKING:
    from peft import PeftConfig

    from .tuner import AnyTuner


def build_peft_tuner(config: PeftConfig, *, name: str, from_checkpoint: bool = False) -> AnyTuner:
    """Return the tuner that a config of PEFT describes, not yet attached.

    Args:
        config: PEFT's config.
        name: the tuner's name.
        from_checkpoint: the config was saved with an adapter.
    """
    if config.is_prompt_learning:
        from .peft_prompts import PromptTuner

        return PromptTuner(config, name=name, from_checkpoint=from_checkpoint)
    if config.is_adaption_prompt:
        from .peft_adaption import AdaptionTuner

        return AdaptionTuner(config, name=name, from_checkpoint=from_checkpoint)
    if isinstance(config, AdaLoraConfig):
        return AdaLoraTuner(config, name=name, from_checkpoint=from_checkpoint)
    if isinstance(config, LNTuningConfig):
        return NormTuner(config, name=name, from_checkpoint=from_checkpoint)
    if isinstance(config, OFTConfig):
        return OftTuner(config, name=name, from_checkpoint=from_checkpoint)
    if isinstance(config, OSFConfig):
        return OsfTuner(config, name=name, from_checkpoint=from_checkpoint)
    if start_of(config) is not None:
        return StartedLoraTuner(config, name=name, from_checkpoint=from_checkpoint)
    return PeftTuner(config, name=name, from_checkpoint=from_checkpoint)


def load_peft_tuner(folder: Path, *, name: str) -> AnyTuner:
    """Return the tuner of a PEFT checkpoint, with what this package saved beside it, not yet attached.

    Raises:
        InvalidCheckpoint: a file is missing or damaged, or of a type that the installed PEFT does not know.
    """
    config, saved = read_peft_config(folder), SavedStart.read(folder)
    lora_plus = read_lora_plus(folder, config)
    if lora_plus is not None:
        return lora_plus.build_tuner(name, from_checkpoint=True, saved=saved)
    if saved is not None:
        return StartedLoraTuner(config, name=name, from_checkpoint=True, saved=saved)
    return build_peft_tuner(config, name=name, from_checkpoint=True)
