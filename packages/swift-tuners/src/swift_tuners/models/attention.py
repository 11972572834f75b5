"""Shifted sparse attention in transformers' models, on one instance at a time.

transformers looks attention functions up by a name in the model's config, in a registry. A function of our own is
registered once under a name of our own, and one model's config says that name; the function cuts the sequences into
groups and hands them to the implementation that the model had before, which does the arithmetic.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from ..errors import UnsupportedConfig

_PREFIX = "swift_shifted"
Attend = Callable[..., tuple[Tensor, Tensor | None]]


class ShiftedAttention:
    """Shifted sparse attention for some of a model's attention modules, while they are in training mode.

    In evaluation, for queries that are not the whole sequence, and in attention that is not causal, it is the attention
    that the model had before.

    Args:
        model: the model, for messages.
        modules: its self-attention.
        ratio: length of a group by that of the sequence.

    Raises:
        UnsupportedConfig: the model's attention is not looked up by its config.
    """

    def __init__(self, model: nn.Module, modules: Sequence[nn.Module], *, ratio: float) -> None:
        found = {id(config): config for module in modules if (config := vars(module).get("config")) is not None}
        self._configs: list[Any] = list(found.values())
        if not self._configs or not _looks_attention_up(model, modules):
            raise UnsupportedConfig(
                f"the attention of {type(model).__name__} cannot be exchanged; expected a decoder of transformers "
                "whose attention goes through its AttentionInterface, such as Llama or Qwen"
            )
        self._before: list[str] = [config._attn_implementation or "eager" for config in self._configs]
        for name in self._before:
            if "flex" in name:
                raise UnsupportedConfig(f"attn_impl={name!r} has masks that cannot be cut; choose sdpa")
        self._names = [_register(name, ratio) for name in self._before]
        self.active = False

    def switch(self, active: bool) -> None:
        """Let the model use it, or what it used before."""
        for config, before, name in zip(self._configs, self._before, self._names, strict=True):
            # As a dictionary, so that configs inside this one, such as a vision tower's, keep theirs.
            config._attn_implementation = {"": name if active else before}
        self.active = active


def shifted_attention(
    attend: Attend,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    ratio: float,
    **options: Any,  # noqa: ANN401  # whatever the implementation takes
) -> Tensor:
    """Attend within groups of tokens; for half of the heads the groups are shifted by half a group.

    With group length G = ceil(ratio T), token t of the first heads sees the tokens of its group floor(t / G) up to
    itself, in the others those of group floor((t + G/2) / G). Positions are in query and key already.

    Args:
        attend: the implementation that does the arithmetic.
        module: the attention module.
        query: (B, H, T, D).
        key: (B, K, T, D); H is a multiple of K.
        value: (B, K, T, D).
        attention_mask: (B or 1, H or 1, T, T), true or zero where a token may look; or (B, T); None is causal.
        ratio: length of a group by that of the sequence.
        options: for the implementation.

    Returns:
        (B, T, H, D).

    Source: LongLoRA, arXiv 2309.12307, section 3.2. Deviations: the first half group of the shifted heads is a group of
    its own, where the paper joins it with the last one, whose tokens it would see; T need not be a multiple of G.
    """
    num_heads, length = query.shape[1], query.shape[2]
    size = max(2, math.ceil(length * ratio))
    shift = size // 2
    if key.shape[1] % 2:
        # An odd number of them has no half: each head gets its own.
        key, value = (each.repeat_interleave(num_heads // each.shape[1], dim=1) for each in (key, value))
    per_key = num_heads // key.shape[1]
    half = key.shape[1] // 2
    unshifted, shifted = [(0, length, size)], [(0, shift, shift), (shift, length, size)]
    outputs = []
    for heads, keys, parts in (
        (slice(0, half * per_key), slice(0, half), unshifted),
        (slice(half * per_key, num_heads), slice(half, None), shifted),
    ):
        rows = [query[:, heads], key[:, keys], value[:, keys]]
        mask = attention_mask
        if mask is not None and mask.dim() == 4 and mask.shape[1] == num_heads:
            mask = mask[:, heads]
        cut = {name: _cut_heads(each, heads, num_heads) for name, each in options.items()}
        view = _Heads(module, heads, num_heads, per_key)
        attended = [
            _attend_in_groups(
                attend, view, [each[:, :, start:end] for each in rows], _cut_mask(mask, start, end), group, cut
            )
            for start, end, group in parts
        ]
        outputs.append(torch.cat(attended, dim=1))
    return torch.cat(outputs, dim=2)


class _Heads:
    """An attention module as an implementation sees it that gets some of its heads only."""

    def __init__(self, module: nn.Module, heads: slice, num_heads: int, per_key: int) -> None:
        self._module, self._heads, self._num_heads = module, heads, num_heads
        self.num_key_value_groups = per_key

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        return _cut_heads(getattr(self._module, name), self._heads, self._num_heads)


def _attend_in_groups(
    attend: Attend,
    module: Any,  # noqa: ANN401  # an attention module, or what stands for one
    rows: Sequence[Tensor],
    mask: Tensor | None,
    size: int,
    options: dict[str, Any],
) -> Tensor:
    """Return (B, T, H, D), computed for groups of `size` tokens as if each were a row of the batch."""
    batch, _, length, _ = rows[0].shape
    num_groups = math.ceil(length / size)
    # What is added stands after all others and is cut off again; no token sees it.
    missing = num_groups * size - length
    folded = [
        functional.pad(each, (0, 0, 0, missing)).unflatten(2, (num_groups, size)).transpose(1, 2).flatten(0, 1)
        for each in rows
    ]
    output, _ = attend(module, *folded, _fold_mask(mask, batch, num_groups, size, missing), **options)
    return output.unflatten(0, (batch, num_groups)).flatten(1, 2)[:, :length]


def _cut_mask(mask: Tensor | None, start: int, end: int) -> Tensor | None:
    if mask is None:
        return None
    return mask[:, start:end] if mask.dim() == 2 else mask[:, :, start:end, start:end]


def _fold_mask(mask: Tensor | None, batch: int, num_groups: int, size: int, missing: int) -> Tensor | None:
    if mask is None:
        return None
    if mask.dim() == 2:  # (B, T) of flash attention
        return functional.pad(mask, (0, missing)).unflatten(1, (num_groups, size)).flatten(0, 1)
    additive = mask.is_floating_point()
    hidden, seen = (torch.finfo(mask.dtype).min, 0.0) if additive else (False, True)
    mask = functional.pad(mask, (0, missing), value=hidden)
    # A row that sees nothing would be NaN with some implementations.
    mask = functional.pad(mask, (0, 0, 0, missing), value=seen)
    blocks = mask.unflatten(3, (num_groups, size)).unflatten(2, (num_groups, size))
    diagonal = blocks.diagonal(dim1=2, dim2=4).permute(0, 4, 1, 2, 3)
    return diagonal.expand(batch, -1, -1, -1, -1).flatten(0, 1)


def _cut_heads(value: Any, heads: slice, num_heads: int) -> Any:  # noqa: ANN401  # an attribute or option
    """Return the part of a vector with a number for each head, such as GPT-OSS's sinks; else the value as it is."""
    return value[heads] if isinstance(value, Tensor) and value.shape == (num_heads,) else value


def _register(name: str, ratio: float) -> str:
    """Register shifted attention over an implementation and return its name, which is the same for the same two."""
    own = f"{_PREFIX}_{ratio:g}_{name}"
    AttentionInterface.register(own, partial(_dispatch, name, ratio))
    # Outside of training the implementation must get the very mask that it would have got.
    masks = AttentionMaskInterface()
    if name in masks:
        AttentionMaskInterface.register(own, masks[name])
    return own


def _dispatch(
    name: str,
    ratio: float,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,  # noqa: ANN401  # whatever the implementation takes
) -> tuple[Tensor, Tensor | None]:
    attend = _implementation(module, name)
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    whole = key.shape[2] == query.shape[2] > 1
    if not module.training or not causal or not whole or query.shape[1] == 1:
        return attend(module, query, key, value, attention_mask, **options)
    if options.get("position_bias") is not None:
        raise UnsupportedConfig(f"{type(module).__name__} adds a bias to positions, which shifted attention cannot cut")
    positions = options.pop("position_ids", None)
    if "flash" in name:
        packed = options.get("cu_seq_lens_q") is not None
        if packed or (positions is not None and not bool((positions.diff(dim=-1) == 1).all())):
            raise UnsupportedConfig(f"longlora cannot train on packed rows with attn_impl={name!r}; choose sdpa")
    return shifted_attention(attend, module, query, key, value, attention_mask, ratio=ratio, **options), None


def _implementation(module: nn.Module, name: str) -> Attend:
    """Return the function that a module would have used, as its own file looks it up."""
    for kind in type(module).__mro__:
        namespace = vars(sys.modules[kind.__module__])
        if "eager_attention_forward" in namespace:
            interface = namespace.get("ALL_ATTENTION_FUNCTIONS") or AttentionInterface()
            found: Attend = interface.get_interface(name, namespace["eager_attention_forward"])
            return found
    raise UnsupportedConfig(f"{type(module).__name__} does not say how it attends; expected a module of transformers")


def _looks_attention_up(model: nn.Module, modules: Sequence[nn.Module]) -> bool:
    holders = [
        each
        for each in model.modules()
        if hasattr(type(each), "_supports_attention_backend") and any(inner is modules[0] for inner in each.modules())
    ]
    # The innermost is the model whose attention it is.
    return bool(holders) and bool(holders[-1]._supports_attention_backend)
