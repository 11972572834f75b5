"""One base weight of a LoRA that does not start from zero: what went into the adapter, and the host's own values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from .host_weights import SwappedParameter

if TYPE_CHECKING:
    from .peft_layers import PeftLayer


class StartedWeight:
    """One base weight, and the part A0, B0 that was taken out of it."""

    def __init__(self, layer: PeftLayer, adapter: str) -> None:
        self._layer = cast("Any", layer)
        self._adapter = adapter
        self.swapped = SwappedParameter(self._layer.get_base_layer().weight)
        self.initial = tuple(torch.zeros_like(each) for each in self._own())

    def start_by_peft(self, start: str) -> None:
        """Let PEFT compute A0 and B0."""
        if start == "olora":
            self._layer.olora_init(self._adapter)
        else:
            self._layer.pissa_init(self._adapter, start)
        self.take_out(*(each.clone() for each in self._own()))

    def start_from(self, initial_a: Tensor, initial_b: Tensor) -> None:
        """Begin with these A0 and B0, and take them out of the weight."""
        for own, given in zip(self._own(), (initial_a, initial_b), strict=True):
            own.copy_(given)
        self.take_out(*(each.clone() for each in self._own()))

    def replace(self, weight: Tensor, initial_a: Tensor, initial_b: Tensor) -> None:
        """Begin with these A0 and B0, and put another weight into the host's place."""
        for own, given in zip(self._own(), (initial_a, initial_b), strict=True):
            own.copy_(given)
        self.swapped.parameter.data = weight

    def take_out(self, initial_a: Tensor, initial_b: Tensor, *, active: bool = True) -> None:
        """Make the weight W - s B0 A0, from A0 and B0 alone: a resumed run has the same bits as the first.

        Args:
            initial_a: A0.
            initial_b: B0.
            active: whether the tuner is on, and its weight in the host.
        """
        parameter = self.swapped.parameter
        self.initial = tuple(each.to(parameter.device, torch.float32).contiguous() for each in (initial_a, initial_b))
        if active:
            self.swapped.swap()
        part = self._layer.scaling[self._adapter] * self.initial[1] @ self.initial[0]
        rest = parameter.data.float() - (part.T if self._layer.fan_in_fan_out else part)
        self.swapped.swap()
        parameter.data = rest.to(parameter.dtype)
        if not active:
            self.swapped.swap()

    def _own(self) -> tuple[Tensor, Tensor]:
        return tuple(getattr(self._layer, each)[self._adapter].weight.detach() for each in ("lora_A", "lora_B"))
