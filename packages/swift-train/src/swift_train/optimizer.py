"""Optimizers by name, and what their state takes.

A file in `optimizers/` is one name for `--optim`; a name without a file is passed on to transformers. Each says before
a run how many bytes its state will take; `count_state_bytes` says how many it takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from swift_templates.registry import Registry, nearest
from swift_tuners import SwiftModel
from torch import Tensor, nn

from .errors import InvalidTrainArgs
from .optimizer_args import NoOptions, OptimizerArgs, read_options, resolve_optimizer
from .parameter_places import Groups, OptimizerGroup, split_by_part
from .transformers_optimizer import build_transformers_optimizer, transformers_optimizers


class OptimizerKind(ABC):
    """How one optimizer is made; the subclass in `optimizers/NAME.py` is what `--optim NAME` selects."""

    options: ClassVar[type] = NoOptions
    """A dataclass of numbers, words and truths: what `--optim_args` may say."""

    @abstractmethod
    def build(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
        """Return the optimizer.

        Its state_dict holds tensors, numbers, words, lists and dicts only; after load_state_dict it goes on to the bit.

        Args:
            model: with its tuners; some methods ask which layer a parameter belongs to.
            groups: what trains.
            args: resolved.

        Raises:
            InvalidTrainArgs: the method cannot train these parameters, or not on this machine.
        """

    @abstractmethod
    def state_bytes(self, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int:
        """Return the most bytes that the state takes once all parameters had a gradient. Raises as `build`."""


OPTIMIZERS: Registry[OptimizerKind] = Registry(kind="optimizer", package="swift_train.optimizers", base=OptimizerKind)


def group_parameters(
    model: nn.Module, args: OptimizerArgs, *, learning_rate: float, weight_decay: float
) -> list[OptimizerGroup]:
    """Return what trains, with the learning rates that tuners and parts ask for; vectors such as biases do not decay.

    Raises:
        InvalidTrainArgs: a part that has a rate of its own does not train.
    """
    if isinstance(model, SwiftModel):
        wanted = model.param_groups(learning_rate)
    else:
        wanted = [{"params": [each for each in model.parameters() if each.requires_grad], "lr": learning_rate}]
    groups: list[OptimizerGroup] = []
    for group in wanted:
        for decays in (True, False):
            chosen = [each for each in group["params"] if (each.ndim > 1) is decays]
            if chosen:
                groups.append({**group, "params": chosen, "weight_decay": weight_decay if decays else 0.0})
    return split_by_part(model, groups, learning_rate=learning_rate, vit_lr=args.vit_lr, aligner_lr=args.aligner_lr)


def build_optimizer(name: str, model: nn.Module, groups: Groups, args: OptimizerArgs) -> torch.optim.Optimizer:
    """Make an optimizer.

    Args:
        name: of a file in `optimizers/`, an alias, or any that transformers knows; it stands over `args.optim`.
        model: with its tuners.
        groups: what trains, with learning rates and decays.
        args: the rest.

    Raises:
        InvalidTrainArgs: the name is unknown, or the optimizer cannot be used here.
        MissingDependency: its package is not installed.
    """
    resolved = _resolve(name, args)
    if resolved.optim in OPTIMIZERS.names():
        kind = OPTIMIZERS.load_class(resolved.optim)
        read_options(kind.options, resolved.optim_args, optimizer=resolved.optim)
        return kind().build(model, groups, resolved)
    return build_transformers_optimizer(model, groups, resolved)


def predict_state_bytes(name: str, model: nn.Module, groups: Groups, args: OptimizerArgs) -> int | None:
    """Return the bytes that the state will take; None for what is transformers' own. Raises as `build_optimizer`."""
    resolved = _resolve(name, args)
    if resolved.optim not in OPTIMIZERS.names():
        return None
    return OPTIMIZERS.load_class(resolved.optim)().state_bytes(model, groups, resolved)


def count_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of the tensors in an optimizer's state; what several parameters share counts once."""
    storages: dict[tuple[torch.device, int], int] = {}
    for tensor in _tensors_in(optimizer.state.values()):
        storage = tensor.untyped_storage()
        storages[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _resolve(name: str, args: OptimizerArgs) -> OptimizerArgs:
    resolved = resolve_optimizer(replace(args, optim=name))
    known = {*OPTIMIZERS.names(), *transformers_optimizers()}
    if resolved.optim not in known:
        raise InvalidTrainArgs(f"optim {name!r} is unknown; {nearest(name, known)}")
    return resolved


def _tensors_in(values: Iterable[object]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors_in(value.values())
        elif isinstance(value, list | tuple):
            yield from _tensors_in(value)
