"""What is wrong with a run's options, said before anything is loaded; and which of them have no effect in this run."""

from __future__ import annotations

import math
from pathlib import Path

from swift_data.args import DataArgs
from swift_tuners.args import chosen_options
from swift_tuners.tuners.lora import LoraArgs

from .args import SftArgs, TrainArgs
from .errors import InvalidTrainArgs
from .optimizer_args import find_optimizer_options_without_effect, resolve_optimizer


def check_args(args: SftArgs) -> None:
    """Refuse options that cannot work.

    Raises:
        InvalidTrainArgs: the message names the option.
    """
    if not args.data.dataset:
        raise InvalidTrainArgs(
            "no --dataset is given; expected a file such as train.jsonl, or a known name such as harrowgate"
        )
    if args.data.streaming:
        raise InvalidTrainArgs(
            "streaming is true; sft takes whole sets, whose rows stay on disk until they are needed, so that a set may "
            "be larger than the memory: leave --streaming out; to train on a part of a set, write big.jsonl#100000"
        )
    if args.model.torch_dtype == "float16":
        raise InvalidTrainArgs("torch_dtype is float16, which loses small gradients; expected bfloat16 or float32")
    if args.model.task_type != "causal_lm":
        raise InvalidTrainArgs(
            f"task_type is {args.model.task_type!r}; sft trains models that write text, expected 'causal_lm'"
        )
    given = ", ".join([*chosen_options(args.model), *chosen_options(args.quantization)])
    if uses_unsloth(args) and given:
        raise InvalidTrainArgs(f"backend is 'unsloth', which loads the model itself and knows nothing of {given}")
    if args.model.device_map is not None:
        raise InvalidTrainArgs(
            f"device_map is {args.model.device_map!r}; in training each process has one device of its own: leave it out"
        )
    resolve_optimizer(args.optimizer)
    _check_positive(args)
    _check_ranges(args)


def uses_unsloth(args: SftArgs) -> bool:
    """Whether unsloth attaches the tuner, and hence loads the model."""
    return isinstance(args.tuner, LoraArgs) and args.tuner.backend == "unsloth"


def find_options_without_effect(args: SftArgs) -> list[str]:
    """Return a sentence for each option that was given and changes nothing in this run."""
    data, train = args.data, args.train
    has_validation = bool(data.val_dataset) or data.split_dataset_ratio > 0
    default_train, default_data = TrainArgs(), DataArgs()
    found = []
    if data.shuffle_buffer_size != default_data.shuffle_buffer_size:
        found.append("shuffle_buffer_size without streaming: whole sets are shuffled as a whole, see --dataset_shuffle")
    if data.stopping_strategy != default_data.stopping_strategy and not data.interleave_prob:
        found.append("stopping_strategy without --interleave_prob")
    if data.val_dataset_shuffle and not data.val_dataset:
        found.append("val_dataset_shuffle without --val_dataset")
    if data.packing_length is not None and not data.packing:
        found.append("packing_length without --packing true")
    if data.split_dataset_ratio > 0 and data.val_dataset:
        found.append("split_dataset_ratio beside --val_dataset")
    if not has_validation:
        names = ("eval_steps", "eval_on_start")
        given = [name for name in names if getattr(train, name) != getattr(default_train, name)]
        found += [f"{name} without --val_dataset or --split_dataset_ratio" for name in given]
    if train.per_device_eval_batch_size != default_train.per_device_eval_batch_size:
        found.append("per_device_eval_batch_size: evaluation fills its forward passes, see --max_tokens_per_forward")
    if train.max_steps > 0 and train.num_train_epochs != default_train.num_train_epochs:
        found.append("num_train_epochs beside --max_steps")
    if isinstance(args.tuner, LoraArgs) and args.tuner.target_regex and args.tuner.target_modules != ["all-linear"]:
        found.append("target_modules beside --target_regex")
    if train.resume_from_checkpoint:
        goes_on_elsewhere = Path(train.output_dir).resolve() not in Path(train.resume_from_checkpoint).resolve().parents
        if goes_on_elsewhere and (train.output_dir, train.add_version) != (
            default_train.output_dir,
            default_train.add_version,
        ):
            found.append("output_dir and add_version beside --resume_from_checkpoint: a run goes on in its own folder")
        found.append("the tuner's options beside --resume_from_checkpoint: the checkpoint's tuners go on")
    found += find_optimizer_options_without_effect(args.optimizer)
    return [f"Without effect: {each}." for each in found]


def _check_positive(args: SftArgs) -> None:
    train = args.train
    counts = {
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "per_device_eval_batch_size": train.per_device_eval_batch_size,
        "max_tokens_per_forward": train.max_tokens_per_forward,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "num_train_epochs": train.num_train_epochs,
        "learning_rate": train.learning_rate,
        "logging_steps": train.logging_steps,
        "save_steps": train.save_steps,
        "eval_steps": train.eval_steps,
        "save_total_limit": train.save_total_limit,
        "ddp_timeout": train.ddp_timeout,
        "packing_length": args.data.packing_length,
        "max_length": args.template.max_length,
    }
    for name, value in counts.items():
        if value is not None and not 0 < value < math.inf:
            raise InvalidTrainArgs(f"{name} is {value}; expected a positive number")
    if train.max_steps == 0 or train.max_steps < -1:
        raise InvalidTrainArgs(f"max_steps is {train.max_steps}; expected a positive number, or -1 for whole epochs")


def _check_ranges(args: SftArgs) -> None:
    train, data = args.train, args.data
    ranges = {
        "warmup_ratio": (0 <= train.warmup_ratio <= 1, "0 to 1"),
        "weight_decay": (0 <= train.weight_decay < math.inf, "0 or more"),
        "max_grad_norm": (0 <= train.max_grad_norm < math.inf, "0 (no limit) or more"),
        "seed": (0 <= train.seed < 2**32, "0 to 4294967295"),
    }
    for name, (is_right, expected) in ranges.items():
        if not is_right:
            raise InvalidTrainArgs(f"{name} is {getattr(train, name)}; expected {expected}")
    if not 0 <= data.split_dataset_ratio < 1:
        raise InvalidTrainArgs(f"split_dataset_ratio is {data.split_dataset_ratio}; expected 0 or more, below 1")
    if data.data_seed < 0:
        raise InvalidTrainArgs(f"data_seed is {data.data_seed}; expected 0 or more")
