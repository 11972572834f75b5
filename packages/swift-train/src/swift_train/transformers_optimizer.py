"""Optimizers that only transformers knows, built as its Trainer would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.training_args import OptimizerNames, ParallelMode

from .errors import InvalidTrainArgs
from .optimizer_args import OptimizerArgs
from .parameter_optimizer import count_processes
from .parameter_places import Groups


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """Those of transformers' arguments that choose an optimizer; to make all of them would reset accelerate's state."""

    optim: OptimizerNames
    optim_args: str | None
    optim_target_modules: str | list[str]
    learning_rate: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    parallel_mode: ParallelMode
    gradient_accumulation_steps: int = 1


def transformers_optimizers() -> list[str]:
    """Return the names that transformers knows."""
    return [each.value for each in OptimizerNames]


def build_transformers_optimizer(model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
    """Make an optimizer by transformers' name.

    Args:
        model: for the methods that choose layers.
        groups: what trains; a method that chooses layers by itself makes its own.
        args: resolved.

    Raises:
        InvalidTrainArgs: its package is missing, or it refuses its options.
    """
    _check_pages(args.optim)
    targets = args.galore_target_modules
    arguments = _Arguments(
        optim=OptimizerNames(args.optim),
        optim_args=args.optim_args,
        optim_target_modules="all-linear" if targets == ["all-linear"] else targets,
        learning_rate=groups[0]["lr"],
        adam_beta1=args.adam_beta1,
        adam_beta2=args.adam_beta2,
        adam_epsilon=args.adam_epsilon,
        parallel_mode=ParallelMode.DISTRIBUTED if count_processes() > 1 else ParallelMode.NOT_PARALLEL,
    )
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(
            cast("TrainingArguments", arguments), cast("PreTrainedModel", model)
        )
        return cast("torch.optim.Optimizer", kind(**{"params": [dict(group) for group in groups], **options}))
    except (ValueError, ImportError, RuntimeError, TypeError, NotImplementedError) as error:
        raise InvalidTrainArgs(f"optimizer {args.optim!r} cannot be used: {error}") from error


def _check_pages(name: str) -> None:
    if not name.startswith("paged_") or torch.cuda.is_available():
        return
    unpaged = name.removeprefix("paged_")
    instead = unpaged if unpaged in transformers_optimizers() else unpaged.removesuffix("_32bit")
    raise InvalidTrainArgs(
        f"optim is {name!r}, whose state a GPU's driver moves to main memory and back, and there is no GPU; "
        f"use --optim {instead}"
    )
