"""Our options as transformers' own."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from .args import SftArgs, TrainArgs
from .errors import InvalidTrainArgs

GLOBAL_BATCH = 16
"""Batch rows per optimizer step where gradient_accumulation_steps is not given."""

LEARNING_RATE = 1e-4


def count_global_batch(args: TrainArgs, num_processes: int) -> int:
    """Return how many batch rows an optimizer step has, over all processes."""
    accumulation = args.gradient_accumulation_steps or max(
        1, round(GLOBAL_BATCH / (args.per_device_train_batch_size * num_processes))
    )
    return args.per_device_train_batch_size * accumulation * num_processes


def default_max_tokens() -> int:
    """Return how many tokens a forward pass has at most, where the user does not say."""
    return 8192 if torch.cuda.is_available() else 2048


def build_training_arguments(
    args: SftArgs,
    folder: Path,
    *,
    num_packs: int,
    global_batch: int,
    checkpointing: bool = False,
    finds_unused: bool = False,
) -> TrainingArguments:
    """Turn our options into transformers' own.

    What transformers' loop takes for a batch is a whole optimizer step: see `swift_train.trainer`.

    Args:
        args: everything a user said.
        folder: of the run.
        num_packs: batch rows of one epoch.
        global_batch: batch rows of one optimizer step.
        checkpointing: whether activations are computed again in the backward pass.
        finds_unused: whether parameters may be without a gradient in a step, as under a schedule of what trains.

    Raises:
        InvalidTrainArgs: transformers refuses a value.
    """
    train = args.train
    steps_per_epoch = math.ceil(num_packs / global_batch)
    num_steps = train.max_steps if train.max_steps > 0 else math.ceil(train.num_train_epochs * steps_per_epoch)
    eval_steps = train.eval_steps or train.save_steps
    has_validation = bool(args.data.val_dataset) or args.data.split_dataset_ratio > 0
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=train.per_device_train_batch_size,
            gradient_accumulation_steps=1,
            learning_rate=train.learning_rate or LEARNING_RATE,
            num_train_epochs=train.num_train_epochs,
            max_steps=num_steps,
            lr_scheduler_type=train.lr_scheduler_type,
            warmup_steps=int(train.warmup_ratio * num_steps),
            weight_decay=train.weight_decay,
            max_grad_norm=train.max_grad_norm,
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            logging_steps=train.logging_steps,
            logging_first_step=True,
            # A NaN must not be replaced by an average in the log.
            logging_nan_inf_filter=False,
            eval_on_start=train.eval_on_start and has_validation,
            save_strategy="steps",
            save_steps=train.save_steps,
            save_only_model=train.save_only_model,
            eval_strategy="steps" if has_validation else "no",
            eval_steps=eval_steps if has_validation else None,
            report_to=train.report_to or "none",
            seed=train.seed,
            use_cpu=not torch.cuda.is_available(),
            ddp_timeout=train.ddp_timeout,
            # Walking the graph costs time.
            ddp_find_unused_parameters=finds_unused,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            disable_tqdm=True,
            log_level="error",
        )
    except (ValueError, ImportError) as error:
        raise InvalidTrainArgs(f"transformers refuses these options: {error}") from error
    # One process uses one GPU: transformers would otherwise split each batch among all that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
