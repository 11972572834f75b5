"""What lets a module stand around another one unnoticed: its signature, and a state dict that can be written as it is.

Trainers read signatures to know which columns a model takes, and write a state dict into one safetensors file, which
refuses two names for one tensor.
"""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any, NamedTuple

from torch import Tensor, nn


class ParameterCount(NamedTuple):
    """How many numbers a model holds, and how many of them train."""

    trainable: int
    total: int

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} parameters train ({self.trainable / max(self.total, 1):.2%})"


def take_signature(wrapper: nn.Module, host: nn.Module) -> None:
    """Give a wrapper a forward that calls its `host` and has the host's signature."""

    # Bound to the wrapper rather than closing over it, so that a deep copy gets a forward of its own.
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the host takes and returns
        return self.host(*args, **kwargs)

    signature = inspect.signature(host.forward)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    rest = [each for each in signature.parameters.values() if each.name != "self"]
    forward.__signature__ = signature.replace(parameters=[first, *rest])  # type: ignore[attr-defined]  # read by inspect
    wrapper.forward = MethodType(forward, wrapper)


def name_tied_once(wrapper: nn.Module) -> None:
    """Let a module's state dict hold a tied tensor under its first name only, and load such a one."""
    wrapper.register_state_dict_post_hook(_leave_out_aliases)
    wrapper.register_load_state_dict_pre_hook(_fill_in_aliases)


def _leave_out_aliases(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    for alias in _aliases(module):
        state.pop(f"{prefix}{alias}", None)


def _fill_in_aliases(module: nn.Module, state: dict[str, Any], prefix: str, *more: object) -> None:
    for alias, name in _aliases(module).items():
        if f"{prefix}{name}" in state:
            state.setdefault(f"{prefix}{alias}", state[f"{prefix}{name}"])


def _aliases(module: nn.Module) -> dict[str, str]:
    """Return the first name of each tensor by the others that it has."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    named: list[tuple[str, Tensor]] = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found
