"""An optimizer's state as it is saved: whole tensors, each in its own type.

What processes share out among them (FSDP2's DTensors) is gathered before and shared out again after, so that a run may
go on with another number of processes. torch casts what it loads to the parameter's type; here each tensor has the type
again that it was saved in, whatever the optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from .errors import BrokenCheckpoint
from .state_files import State


def is_shared_out(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether parameters are shared out among processes; then all of these have to call `whole_state`."""
    return any(isinstance(each, DTensor) for group in optimizer.param_groups for each in group["params"])


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, State]:
    """Return what `state_dict` does, with whole tensors, and the shape of each parameter."""
    gathered = _map_tensors(
        optimizer.state_dict(), lambda each: each.full_tensor() if isinstance(each, DTensor) else each
    )
    shapes = [list(each.shape) for each in _parameters(optimizer)]
    return {**cast("dict[str, State]", gathered), "shapes": shapes}


def load_whole_state(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Take over what `whole_state` returned, perhaps with another number of processes.

    Raises:
        BrokenCheckpoint: the state is one of another optimizer, or of other parameters.
    """
    kind = type(inner_optimizer(optimizer)).__name__
    if not isinstance(state, dict) or not {"state", "param_groups", "shapes"} <= set(state):
        raise BrokenCheckpoint(f"the optimizer's state is {state!r:.80}; expected what {kind} saved")
    saved = cast("dict[str, Any]", state)
    own = _parameters(optimizer)
    shapes, expected = saved["shapes"], [list(each.shape) for each in own]
    if shapes != expected:
        raise BrokenCheckpoint(
            f"the optimizer's state is of {len(shapes)} parameters and {len(expected)} train here"
            f"{_first_difference(shapes, expected)}; go on with the options that the run began with: --optim, and what "
            "the tuner trains"
        )
    numbers = list(chain.from_iterable(group["params"] for group in saved["param_groups"]))
    by_number = dict(zip(numbers, own, strict=True))
    values = {number: _share_out(each, by_number[number]) for number, each in saved["state"].items()}
    try:
        optimizer.load_state_dict({"param_groups": saved["param_groups"], "state": values})
    except (ValueError, KeyError) as error:
        raise BrokenCheckpoint(
            f"the optimizer's state does not fit {kind}: {error}; go on with the --optim that the run began with"
        ) from error
    for number, each in values.items():
        _restore_types(optimizer.state[by_number[number]], each)


def inner_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that accelerate has wrapped, or the one that is given."""
    inner: Any = optimizer
    while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):
        inner = inner.optimizer
    return cast("torch.optim.Optimizer", inner)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return list(chain.from_iterable(group["params"] for group in optimizer.param_groups))


def _first_difference(saved: list[list[int]], own: list[list[int]]) -> str:
    for number, (there, here) in enumerate(zip(saved, own, strict=False)):
        if there != here:
            return f", the one number {number} of shape {tuple(there)} there and {tuple(here)} here"
    return ""


def _share_out(values: Any, parameter: nn.Parameter) -> Any:  # noqa: ANN401  # a nested state, as torch types it
    if not isinstance(parameter, DTensor):
        return values
    mesh, placements, shape = parameter.device_mesh, parameter.placements, parameter.shape
    return _map_tensors(
        values,
        lambda each: distribute_tensor(each.to(mesh.device_type), mesh, placements) if each.shape == shape else each,
    )


def _restore_types(loaded: dict[Any, Any], given: Mapping[Any, Any]) -> None:
    """Undo what torch's loading changes: it casts tensors, and takes a word for a list of its letters."""
    for name, value in given.items():
        # Some optimizers load what they saved under another name.
        if name in loaded:
            loaded[name] = _restored(loaded[name], value)


def _restored(found: Any, given: Any) -> Any:  # noqa: ANN401  # a nested state, as torch types it
    if isinstance(found, Tensor) and isinstance(given, Tensor):
        return found if found.dtype == given.dtype else given.to(found.device, copy=True)
    if isinstance(found, dict) and isinstance(given, Mapping):
        _restore_types(found, given)
        return found
    if isinstance(found, list | tuple) and isinstance(given, list | tuple) and len(found) == len(given):
        restored = [_restored(*pair) for pair in zip(found, given, strict=True)]
        return tuple(restored) if isinstance(given, tuple) else restored
    return copy.deepcopy(given)


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401  # a nested state, as torch types it
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        changed: Iterable[Any] = (_map_tensors(each, change) for each in value)
        return tuple(changed) if isinstance(value, tuple) else list(changed)
    return value
