"""PEFT's layer around torch's MultiheadAttention, kept from changing the host's weights by rounding.

For each call PEFT adds the adapter to the weights and takes it off again by subtraction, which does not give the same
numbers: the host would drift with every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from torch import nn

from .targets import unwrap


def keep_attention_weights(layers: Iterable[nn.Module]) -> None:
    """Let those of PEFT's layers that are around torch's attention put the very same weights back after each call."""
    for layer in layers:
        if isinstance(unwrap(layer), nn.MultiheadAttention) and hasattr(layer, "unmerge"):
            # An attribute of the layer, which goes with it; a hook would keep torch's encoder from fusing.
            cast("Any", layer).forward = partial(_forward, layer)


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as the layer's own
    attention = cast("Any", unwrap(layer))
    places = ((attention, "in_proj_weight"), (unwrap(attention.out_proj), "weight"))
    held = [module._parameters[name] for module, name in places]
    try:
        return type(layer).forward(layer, *args, **kwargs)
    finally:
        for (module, name), parameter in zip(places, held, strict=True):
            module._parameters[name] = parameter
