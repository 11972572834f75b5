"""Which tokens of a batch are real, which sample each belongs to, and where the prompts end.

The layers of a model see hidden states only. So the arguments of the model's own call are noted on the way in, for the
layers inside to look at.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import UnsupportedConfig

_CACHES = ("past_key_values", "cache_params")
_NOTED = ("attention_mask", "position_ids", "labels", *_CACHES)


class CallArguments:
    """The arguments of the call of a model that is under way.

    Attributes:
        values: by their names in the forward of the model or of a part of it.
        open: a call is under way; otherwise layers that run are run again by gradient checkpointing.
        has_past: the call goes on after tokens that are in a cache.
        takes_gradients: the call was made with gradients enabled.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.open = False
        self.has_past = False
        self.takes_gradients = False
        self._outermost: str | None = None

    def watch(self, modules: Iterable[tuple[str, nn.Module]]) -> list[RemovableHandle]:
        """Hook into modules, the model first, so that whichever is called first begins a call."""
        handles: list[RemovableHandle] = []
        for path, module in modules:
            names = tuple(inspect.signature(module.forward).parameters)
            handles.append(module.register_forward_pre_hook(partial(self._begin, path, names), with_kwargs=True))
            handles.append(module.register_forward_hook(partial(self._end, path)))
        return handles

    def _begin(
        self, path: str, names: tuple[str, ...], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        # A part comes after the whole; and whatever an aborted call left is void.
        if not self.open or self._outermost == path or self._outermost is None:
            self.values, self.open, self._outermost = {}, True, path
            self.has_past = False
            self.takes_gradients = torch.is_grad_enabled()
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for name in _NOTED:
            if given.get(name) is not None:
                self.values.setdefault(name, given[name])
        self.has_past = self.has_past or any(_holds_tokens(given.get(name)) for name in _CACHES)

    def _end(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401  # the host's
        if self._outermost == path:
            self.values, self.open, self._outermost = {}, False, None


@dataclass(frozen=True)
class Layout:
    """The tokens of a batch.

    Attributes:
        valid_BT: bool; which are real, not padding.
        sample_BT: int64; the number of the sample that a token belongs to, from 0 over the whole batch. A row holds
            several where samples are packed.
    """

    valid_BT: Tensor
    sample_BT: Tensor

    def count(self, chosen_BT: Tensor) -> Tensor:
        """Return for each token how many tokens of its sample are chosen: int64 (B, T)."""
        totals = torch.zeros(self.sample_BT.numel(), dtype=torch.long, device=chosen_BT.device)
        totals.scatter_add_(0, self.sample_BT.flatten(), chosen_BT.flatten().long())
        return totals[self.sample_BT]

    def count_before(self, chosen_BT: Tensor) -> Tensor:
        """Return for each token how many tokens before it in its sample are chosen: int64 (B, T)."""
        running_BT = chosen_BT.long().cumsum(dim=1) - chosen_BT.long()
        starts_BT = torch.ones_like(chosen_BT)
        starts_BT[:, 1:] = self.sample_BT[:, 1:] != self.sample_BT[:, :-1]
        # Counts never fall along a row: the largest one at a start so far is that of the sample's own start.
        return running_BT - torch.where(starts_BT, running_BT, 0).cummax(dim=1).values


def lay_out(values: dict[str, Any], hidden_BTD: Tensor) -> Layout:
    """Return the layout of a batch, from the arguments of the model's call.

    Args:
        values: attention_mask (B, T) where there is padding; position_ids (B, T) that restart at 0 where samples are
            packed, or (N, B, T) with several axes.
        hidden_BTD: the hidden states, or the embeddings.

    Raises:
        UnsupportedConfig: the mask is of another form, which does not say what is padding.
    """
    B, T = hidden_BTD.shape[:2]
    mask, positions = values.get("attention_mask"), values.get("position_ids")
    valid_BT = torch.ones(B, T, dtype=torch.bool, device=hidden_BTD.device)
    if mask is not None:
        # Columns to the left are of what is in a cache already.
        if not isinstance(mask, Tensor) or mask.dim() != 2 or len(mask) != B or mask.shape[1] < T:
            shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise UnsupportedConfig(
                f"the attention mask is {shape}, which does not tell padding from tokens; expected {(B, T)}: pass one "
                "of this shape, and position_ids that restart at 0 where samples are packed"
            )
        valid_BT = mask[:, -T:].to(hidden_BTD.device).bool()
    starts_BT = torch.zeros(B, T, dtype=torch.bool, device=hidden_BTD.device)
    if isinstance(positions, Tensor) and positions.dim() >= 2:
        # Of several axes, as for pictures, all are 0 where a sample begins.
        zeros = (positions.to(hidden_BTD.device) == 0).reshape(-1, *positions.shape[-2:]).all(dim=0)
        starts_BT = zeros.expand(B, T).clone()
    starts_BT[:, 0] = True
    return Layout(valid_BT, starts_BT.flatten().cumsum(dim=0).view(B, T) - 1)


def _holds_tokens(cache: object) -> bool:
    """Say whether a cache of transformers', of keys and values or of a recurrence's states, holds something."""
    if cache is None:
        return False
    # A recurrence's layers count no tokens; they only know whether they have a state.
    for layer in getattr(cache, "layers", None) or ():
        states = getattr(layer, "has_previous_state", None)
        if isinstance(states, dict) and any(states.values()):
            return True
    length = getattr(cache, "get_seq_length", None)
    if length is None:
        return bool(cache)
    try:
        return int(length()) > 0
    except (ValueError, TypeError, IndexError, AttributeError):
        # A cache of recurrences alone, empty.
        return False
