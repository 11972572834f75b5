"""Layers whose weights a device map has put on a disk or in main memory, until the moment of the call.

accelerate leaves empty tensors on 'meta' in such a layer. What copies, trains or folds something into them would work
on nothing, and torch says so late or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def is_offloaded(module: nn.Module) -> bool:
    """Say whether accelerate fetches the module's weights for each call."""
    return hasattr(module, "_hf_hook") and any(each.is_meta for each in module.parameters(recurse=False))


@contextmanager
def loaded_weights(module: nn.Module) -> Iterator[None]:
    """Have the module's weights where it computes while the block runs."""
    if not is_offloaded(module):
        yield
        return
    hook: Any = module._hf_hook
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


def computing_device(modules: Iterable[nn.Module]) -> torch.device | str | int | None:
    """Return where the first of these modules computes that accelerate moves weights for; None if there is none."""
    hooks: Iterator[Any] = (getattr(module, "_hf_hook", None) for module in modules)
    return next((hook.execution_device for hook in hooks if hasattr(hook, "execution_device")), None)
