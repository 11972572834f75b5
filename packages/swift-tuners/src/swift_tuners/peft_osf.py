"""OSF, whose layers keep gradients in place by hooks that pickle cannot write, and would lose without a word.

Condition of removal: PEFT's OSFLayer puts its hooks on again when it is loaded from a pickle.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn, cast

from torch import nn

from .errors import UnsupportedConfig
from .peft_layers import named_layers
from .peft_tuner import PeftTuner


class OsfTuner(PeftTuner):
    """Weights taken apart by their singular values, of which the smaller ones train."""

    def attach(self, model: nn.Module) -> None:
        """Inject the layers; see `PeftTuner.attach`."""
        super().attach(model)
        for _, layer in named_layers(model, self.name):
            held = cast("Any", layer)
            held.hook_handles = _Handles(held.hook_handles)


class _Handles(list[Any]):
    """The hooks of one layer, in PEFT's place for them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Handles:
        return type(self)(copy.deepcopy(list(self), memo))

    def __reduce__(self) -> NoReturn:
        raise UnsupportedConfig(
            "a model with an OSF tuner cannot be pickled: the hooks that keep its gradients in place would be lost; "
            "save the tuner with save_pretrained, and load it onto the model again"
        )
