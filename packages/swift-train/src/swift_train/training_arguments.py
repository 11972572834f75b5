"""Our options as transformers' own."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from .args import SftArgs
from .errors import InvalidTrainArgs

GLOBAL_BATCH = 16
"""Batch rows per optimizer step where gradient_accumulation_steps is not given."""

LEARNING_RATE = 1e-4


def build_training_arguments(
    args: SftArgs, folder: Path, *, num_packs: int, num_processes: int, finds_unused: bool = False
) -> TrainingArguments:
    """Turn our options into transformers' own.

    Args:
        args: everything a user said.
        folder: of the run.
        num_packs: batch rows of one epoch.
        num_processes: that share a global batch.
        finds_unused: whether parameters may be without a gradient in a step, as under a schedule of what trains.

    Raises:
        InvalidTrainArgs: transformers refuses a value.
    """
    train = args.train
    accumulation = train.gradient_accumulation_steps or max(
        1, round(GLOBAL_BATCH / (train.per_device_train_batch_size * num_processes))
    )
    steps_per_epoch = math.ceil(num_packs / (train.per_device_train_batch_size * accumulation * num_processes))
    num_steps = train.max_steps if train.max_steps > 0 else math.ceil(train.num_train_epochs * steps_per_epoch)
    eval_steps = train.eval_steps or train.save_steps
    has_validation = bool(args.data.val_dataset) or args.data.split_dataset_ratio > 0
    try:
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=train.per_device_train_batch_size,
            per_device_eval_batch_size=train.per_device_eval_batch_size,
            gradient_accumulation_steps=accumulation,
            learning_rate=train.learning_rate or LEARNING_RATE,
            num_train_epochs=train.num_train_epochs,
            max_steps=num_steps,
            lr_scheduler_type=train.lr_scheduler_type,
            warmup_steps=int(train.warmup_ratio * num_steps),
            weight_decay=train.weight_decay,
            adam_beta2=train.adam_beta2,
            max_grad_norm=train.max_grad_norm,
            optim=train.optim,
            gradient_checkpointing=train.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            logging_steps=train.logging_steps,
            logging_first_step=True,
            # A NaN must not be replaced by an average in the log.
            logging_nan_inf_filter=False,
            eval_on_start=train.eval_on_start and has_validation,
            save_strategy="steps",
            save_steps=train.save_steps,
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
