"""LoRA+: LoRA whose matrices B learn faster than its matrices A.

Source: LoRA+: Efficient Low Rank Adaptation of Large Models, arXiv 2402.12354, section 4.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .errors import InvalidCheckpoint, UnsupportedConfig
from .peft_starts import SavedStart, StartedLoraTuner

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig

    from .tuner import ParamGroup

LORA_PLUS_FILE = "adapter_lora_plus.json"


@dataclass(frozen=True, kw_only=True)
class LoraPlusConfig:
    """A LoRA config of PEFT, and how much faster B learns."""

    lora: LoraConfig
    """What is attached and saved, in PEFT's format; any start."""
    lr_ratio: float = 16.0
    """The learning rate of B by that of A."""

    def build_tuner(
        self, name: str, *, from_checkpoint: bool = False, saved: SavedStart | None = None
    ) -> LoraPlusTuner:
        """Return the tuner that this config describes, not yet attached.

        Raises:
            UnsupportedConfig: the ratio is not positive.
        """
        if not self.lr_ratio > 0:
            raise UnsupportedConfig(f"lr_ratio of tuner {name!r} is {self.lr_ratio!r}; expected a positive number")
        return LoraPlusTuner(self.lora, name=name, lr_ratio=self.lr_ratio, from_checkpoint=from_checkpoint, saved=saved)


class LoraPlusTuner(StartedLoraTuner):
    """A LoRA, plain or with a start, in two groups of learning rates.

    Args:
        config: PEFT's config.
        name: the adapter's name.
        lr_ratio: the learning rate of B by that of A.
        from_checkpoint: the config was saved with an adapter.
        saved: a start that was saved with it.
    """

    def __init__(
        self,
        config: PeftConfig,
        *,
        name: str,
        lr_ratio: float,
        from_checkpoint: bool = False,
        saved: SavedStart | None = None,
    ) -> None:
        super().__init__(config, name=name, from_checkpoint=from_checkpoint, saved=saved)
        self.lr_ratio = lr_ratio

    def param_groups(self, learning_rate: float) -> list[ParamGroup]:
        """Return A with the run's rate, and B, with all vectors such as biases, with `lr_ratio` times that.

        PEFT's own optimizer for LoRA+ gives adapters of embeddings a fixed rate of 1e-6; here they are like others.
        """
        parameters = self.parameters()
        faster = {
            name: each
            for name, each in parameters.items()
            if "lora_B" in name or "lora_embedding_B" in name or each.ndim == 1
        }
        slower = [each for name, each in parameters.items() if name not in faster]
        groups: list[ParamGroup] = [
            {"params": slower, "lr": learning_rate},
            {"params": list(faster.values()), "lr": learning_rate * self.lr_ratio},
        ]
        return [group for group in groups if group["params"]]

    def save(self, folder: Path) -> None:
        """Write a PEFT checkpoint, and the ratio beside it."""
        super().save(folder)
        (folder / LORA_PLUS_FILE).write_text(json.dumps({"lr_ratio": self.lr_ratio}) + "\n", encoding="utf-8")


def read_lora_plus(folder: Path, config: PeftConfig) -> LoraPlusConfig | None:
    """Return the config of a checkpoint that `LoraPlusTuner` saved, if it did.

    Args:
        folder: the checkpoint.
        config: PEFT's, from the same folder.

    Raises:
        InvalidCheckpoint: the file is damaged.
    """
    path = folder / LORA_PLUS_FILE
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        ratio = float(fields["lr_ratio"])
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidCheckpoint(f"{str(path)!r} holds no lr_ratio: {error!r}; the checkpoint is damaged") from error
    return LoraPlusConfig(lora=cast("LoraConfig", config), lr_ratio=ratio)
