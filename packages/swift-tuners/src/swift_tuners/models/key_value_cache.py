"""Key-value caches that begin with keys and values which no token made."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

_FLAG = "_can_checkpoint_with_cache"


class _ReadOnlyCache(DynamicCache):
    """A cache whose layers show the same keys and values at each call, so that a layer may be run twice."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Return what is held and what is new, and keep nothing of it."""
        layer: Any = self.layers[layer_idx]
        return torch.cat([layer.keys, key_states], dim=-2), torch.cat([layer.values, value_states], dim=-2)


def layers_without_cache(config: PreTrainedConfig) -> list[int]:
    """Return which layers of a model keep no keys and values that grow with the text, such as those of Mamba."""
    layers = DynamicCache(config=config).layers
    return [
        index
        for index, layer in enumerate(layers)
        if not isinstance(layer, DynamicLayer) or hasattr(layer, "conv_states")
    ]


def fill_cache(
    given: Cache | None, config: PreTrainedConfig, keys_values: Sequence[tuple[Tensor, Tensor]], *, read_only: bool
) -> Cache:
    """Put keys and values into an empty cache.

    Args:
        given: the cache, changed in place; None for a new one.
        config: of the model that will use it.
        keys_values: for each layer keys and values, each (batch, heads, tokens, head size).
        read_only: return a new one that keeps nothing more, for layers which gradient checkpointing runs twice.
    """
    cache = DynamicCache(config=config) if given is None or read_only else given
    for index, (keys, values) in enumerate(keys_values):
        cache.update(keys, values, index)
    if read_only:
        cache.__class__ = _ReadOnlyCache
    return cache


def let_checkpoints_keep_cache(model: nn.Module) -> list[nn.Module]:
    """Have layers keep a cache under gradient checkpointing, as only read-only ones may be; return those changed."""
    changed = [module for module in model.modules() if getattr(type(module), _FLAG, None) is False]
    for module in changed:
        setattr(module, _FLAG, True)
    return changed


def let_checkpoints_drop_cache(changed: Sequence[nn.Module]) -> None:
    """Undo `let_checkpoints_keep_cache`."""
    for module in changed:
        delattr(module, _FLAG)


def is_checkpointing(model: nn.Module) -> bool:
    """Say whether the model runs with gradient checkpointing at present."""
    return model.training and bool(getattr(model, "is_gradient_checkpointing", False))


def checkpoints_drop_cache(model: nn.Module) -> bool:
    """Say whether the model, checkpointed as it is now, would go without a read-only cache in spite of the above."""
    return any(_drops_cache(module) for module in model.modules() if getattr(module, "gradient_checkpointing", False))


def _drops_cache(module: nn.Module) -> bool:
    if hasattr(module, _FLAG):
        options = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
        # A reentrant one does not bring gradients to tensors that are not among its arguments.
        return not getattr(module, _FLAG) or bool(options.get("use_reentrant"))
    # Containers of layers carry the mark too; only those that look at it do something about it.
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is None or "gradient_checkpointing" in code.co_names
