"""Which class carries a config of PEFT: `PeftTuner`, or a subclass for methods that need more than an injection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .peft_tuner import PeftTuner

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
    return PeftTuner(config, name=name, from_checkpoint=from_checkpoint)
