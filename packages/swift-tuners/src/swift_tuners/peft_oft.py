"""OFT on linear layers whatever the shape of their input: PEFT takes any input of four dimensions for a picture's.

Condition of removal: PEFT's OFTRotationModule asks its layer, and not its input, whether it is a convolution.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from .errors import CannotMerge
from .host_modules import is_linear, unwrap
from .peft_layers import active_in, named_layers
from .peft_tuner import PeftTuner


class OftTuner(PeftTuner):
    """Rotations of the inputs of layers."""

    def attach(self, model: nn.Module) -> None:
        """Inject the rotations; see `PeftTuner.attach`."""
        super().attach(model)
        for _, layer in named_layers(model, self.name):
            rotations = getattr(layer, "oft_R", {})
            if self.name in rotations and is_linear(unwrap(cast("nn.Module", layer))):
                rotation = rotations[self.name]
                rotation.forward = partial(_rotate_rows, rotation)

    def check_merge(self) -> None:
        """Raise CannotMerge also where another rotation acts on the same layer: PEFT swaps their order."""
        super().check_merge()
        for path, layer in named_layers(self.model, self.name):
            others = [name for name in active_in(layer) if name != self.name and name in getattr(layer, "oft_R", {})]
            if others:
                raise CannotMerge(
                    f"tuners {self.name!r} and {others[0]!r} both rotate the input of {path!r}, and rotations cannot "
                    f"be folded in one after the other; switch {others[0]!r} off, or save them instead"
                )


def _rotate_rows(rotation: nn.Module, values: Tensor) -> Tensor:
    """Rotate the last dimension, with all others as one."""
    rotated: Tensor = cast("Any", type(rotation)).forward(rotation, values.reshape(-1, values.shape[-1]))
    return rotated.view_as(values)
