"""What a user may say about asking a model; light, so that a help text needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from swift_templates.args import PromptArgs
from swift_templates.generation import SamplingParams
from swift_tuners.args import ModelArgs
from swift_tuners.quantizer_args import QuantizationArgs


@dataclass(kw_only=True)
class EngineArgs:
    """Which checkpoint answers, and by which engine."""

    ckpt_dir: str | None = None
    """A folder that a training run or an export wrote: adapter or whole model; brings its base model and template."""
    adapters: list[str] = field(default_factory=list)
    """Adapter folders on top of the model, as DIR or NAME=DIR."""
    adapter: str | None = None
    """Which of several adapters answers; a checkpoint's own is called default."""
    infer_backend: str = "torch"
    """Engine that answers."""
    max_batch_size: int = 8
    """Prompts answered at once."""


@dataclass(kw_only=True)
class AskArgs:
    """What is asked, and where the answers go; without a prompt or a data set it is a chat in the terminal."""

    prompt: str | None = None
    """One question."""
    val_dataset: list[str] = field(default_factory=list)
    """Rows to answer, spelled as in training; the last answer of each row is left out and kept as the label."""
    result_path: str | None = None
    """New JSONL file for the answers; by default infer_result/DATE.jsonl beside the checkpoint."""
    stream: bool = True
    """Show an answer while it is made (one question and chat)."""


@dataclass(kw_only=True)
class InferArgs:
    """Ask a model: one question, a data set, or a chat in the terminal."""

    model: ModelArgs = field(default_factory=ModelArgs)
    quantization: QuantizationArgs = field(default_factory=QuantizationArgs)
    template: PromptArgs = field(default_factory=PromptArgs)
    engine: EngineArgs = field(default_factory=EngineArgs)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    ask: AskArgs = field(default_factory=AskArgs)
