"""What a user may say about a training run; light, so that a help text needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from swift_data.args import DataArgs
from swift_templates.args import TemplateArgs
from swift_tuners.args import ModelArgs, TunerArgs
from swift_tuners.quantizer_args import QuantizationArgs
from swift_tuners.tuners.lora import LoraArgs

from .optimizer_args import OptimizerArgs


@dataclass(kw_only=True)
class TrainArgs:
    """The training step, its schedule and its checkpoints."""

    output_dir: str = "output"
    """Folder of runs; each run gets a sub-folder of its own, vN-DATE, unless add_version is false."""
    add_version: bool = True
    """Put the run in a new sub-folder of output_dir; false writes to output_dir itself, which must not hold another
    run."""
    per_device_train_batch_size: int = 1
    """Samples (or packs) per process and step of accumulation. How many share a forward pass is another question:
    see max_tokens_per_forward."""
    per_device_eval_batch_size: int = 1
    """Has no effect: evaluation fills its forward passes too."""
    gradient_accumulation_steps: int | None = None
    """An optimizer step has per_device_train_batch_size times this many samples of each process; by default what makes
    a global batch of 16."""
    max_tokens_per_forward: int | None = None
    """Most tokens in one forward pass, of as many samples as fit; it changes time and memory, not the result. By
    default 2,048 on a CPU and 8,192 on a GPU. A longer sample has a forward pass of its own."""
    learning_rate: float | None = None
    """Peak learning rate; 1e-4 by default."""
    num_train_epochs: float = 3.0
    """Passes over the training rows."""
    max_steps: int = -1
    """Optimizer steps; if positive, it overrides num_train_epochs."""
    lr_scheduler_type: str = "cosine"
    """Schedule of the learning rate: cosine, linear, constant, constant_with_warmup, ..."""
    warmup_ratio: float = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.1
    """Decay of the weights that are matrices."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, about a third more time. By default only where the
    memory estimate asks for it."""
    logging_steps: int = 5
    """Steps between two lines of the log."""
    save_steps: int = 500
    """Steps between two checkpoints; the last step always saves one."""
    eval_steps: int | None = None
    """Steps between two evaluations; by default as save_steps."""
    eval_on_start: bool = False
    """Evaluate before the first step too."""
    save_total_limit: int | None = None
    """Keep only this many of the newest checkpoints."""
    save_only_model: bool = False
    """Leave optimizer, schedule and place in the data out of checkpoints: smaller, and no run goes on from them."""
    resume_from_checkpoint: str | None = None
    """Go on from this checkpoint, or from the newest whole one of this run's folder: weights, optimizer, schedule and
    place in the data. 'true' finds the newest in output_dir; 'latest' too, and begins anew where there is none yet."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What happens at a loss that is not a finite number: the run ends, or the step is dropped, said and counted."""
    async_save: bool | None = None
    """Train on while a checkpoint is written, which takes a copy of it in main memory; by default where that fits
    well."""
    report_to: list[str] = field(default_factory=list)
    """Trackers that get the log too: tensorboard, wandb, mlflow, ... (logging.jsonl is always written)."""
    seed: int = 42
    """Seed of initialisation and dropout."""
    ddp_timeout: int = 1800
    """Seconds that a process waits for the others."""


@dataclass(kw_only=True)
class SftArgs:
    """Supervised fine-tuning: the model learns to give a conversation's answers."""

    model: ModelArgs = field(default_factory=ModelArgs)
    quantization: QuantizationArgs = field(default_factory=QuantizationArgs)
    template: TemplateArgs = field(default_factory=TemplateArgs)
    data: DataArgs = field(default_factory=DataArgs)
    tuner: TunerArgs = field(default_factory=LoraArgs)
    train: TrainArgs = field(default_factory=TrainArgs)
    optimizer: OptimizerArgs = field(default_factory=OptimizerArgs)
