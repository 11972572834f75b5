"""Adapters that took a part of the base weights in, at rest: as a plain LoRA of rank 2r, and what tells it apart."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

from peft import LoraConfig

from .errors import InvalidCheckpoint

START_FILE = "adapter_start.json"


@dataclass(frozen=True, kw_only=True)
class SavedStart:
    """The rank-r form of an adapter that is saved with rank 2r."""

    start: str
    r: int
    lora_alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> SavedStart | None:
        """Read what `StartedLoraTuner.save` wrote into a folder, if it did. Raises InvalidCheckpoint."""
        path = folder / START_FILE
        if not path.is_file():
            return None
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidCheckpoint(f"{str(path)!r} is no JSON: {error}; the checkpoint is damaged") from error
        names = {each.name for each in fields(cls)}
        if not isinstance(saved, dict) or set(saved) != names or not isinstance(saved["r"], int):
            raise InvalidCheckpoint(f"{str(path)!r} holds {saved!r:.120}; expected {', '.join(sorted(names))}")
        return cls(**saved)

    @classmethod
    def of(cls, config: LoraConfig, start: str) -> SavedStart:
        """Return what says how an adapter of this config was before its rank was doubled."""
        return cls(
            start=start,
            r=config.r,
            lora_alpha=config.lora_alpha,
            rank_pattern=dict(config.rank_pattern or {}),
            alpha_pattern=dict(config.alpha_pattern or {}),
        )

    def write(self, folder: Path) -> None:
        """Write it beside the adapter."""
        (folder / START_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def apply(self, config: LoraConfig) -> None:
        """Give a config that was saved with it its rank r again. Raises InvalidCheckpoint if it is another's."""
        if config.r != 2 * self.r:
            raise InvalidCheckpoint(
                f"{START_FILE} says that rank {self.r} was saved as {2 * self.r}, but adapter_config.json says "
                f"{config.r}; the checkpoint is mixed up: remove {START_FILE} to train the saved rank"
            )
        config.r, config.lora_alpha = self.r, cast("int", self.lora_alpha)
        config.rank_pattern, config.alpha_pattern = dict(self.rank_pattern), dict(self.alpha_pattern)


def double_rank(config: LoraConfig) -> LoraConfig:
    """Return the config of a plain LoRA that holds [A; A0] and [B, -B0], with the scale s as it was."""
    doubled = copy.deepcopy(config)
    # s is alpha / r, or alpha / sqrt(r) for rsLoRA.
    factor = 2**0.5 if config.use_rslora else 2
    doubled.r, doubled.lora_alpha = 2 * config.r, cast("int", config.lora_alpha * factor)
    doubled.rank_pattern = {key: 2 * rank for key, rank in (config.rank_pattern or {}).items()}
    doubled.alpha_pattern = {key: factor * alpha for key, alpha in (config.alpha_pattern or {}).items()}
    return doubled
