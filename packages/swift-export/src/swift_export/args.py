"""What a user may say about an export; light, so that a help text needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from swift_templates.args import PromptArgs
from swift_tuners.args import ModelArgs


@dataclass(kw_only=True)
class ExportTargetArgs:
    """What is exported, into what."""

    ckpt_dir: str | None = None
    """A folder that a training run wrote; brings its base model and template."""
    adapters: list[str] = field(default_factory=list)
    """Adapter folders on top of the model, merged in this order."""
    merge_lora: bool = False
    """Fold the adapters into the weights and write a whole model."""
    output_dir: str | None = None
    """Folder for the result; by default the checkpoint's name with -merged."""


@dataclass(kw_only=True)
class ExportArgs:
    """Export a tuned model; ends with a report of how equal the exported model answers."""

    model: ModelArgs = field(default_factory=ModelArgs)
    template: PromptArgs = field(default_factory=PromptArgs)
    export: ExportTargetArgs = field(default_factory=ExportTargetArgs)
