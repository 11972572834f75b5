"""Which adapters of PEFT work on layers whose weights are offloaded, and what they cannot do there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import nn

from .errors import CannotMerge, UnsupportedConfig
from .offloaded_weights import is_offloaded
from .peft_layers import inside, named_layers, tensors_in
from .targets import unwrap

# Methods that call the host's layer, which is when its weights come, and leave them alone otherwise: measured, output
# and gradients are those without offloading. The others compute with the weights themselves.
_CALLING = (
    *("adalora", "beft", "boft", "deft", "delora", "gralora", "ia3", "lily", "loha", "lokr", "lora", "oft", "osf"),
    *("pvera", "randlora", "tinylora", "trainable_tokens", "vera"),
)


def check_offloaded(config: object, model: nn.Module, name: str, *, kind: str) -> None:
    """Check that an adapter does its work on those of its layers that are offloaded.

    Args:
        config: PEFT's config.
        model: the host, with the adapter.
        name: the adapter's name.
        kind: the method.

    Raises:
        UnsupportedConfig: it needs weights that are not there.
    """
    calling = kind in _CALLING and not getattr(config, "use_dora", False)
    for path, layer in named_layers(model, name):
        if not is_offloaded(unwrap(inside(layer))):
            continue
        if not calling or any(tensor.is_meta for tensor in tensors_in(layer, name)):
            raise UnsupportedConfig(
                f"{kind} tuner {name!r} needs the weights of {path!r}, which device_map has offloaded; "
                "give this module a device in device_map, leave it out, or use plain LoRA on it"
            )


def check_biases(modules: Iterable[nn.Module], name: str) -> None:
    """Raise UnsupportedConfig if one of these modules is offloaded, so that its bias cannot train."""
    for module in modules:
        if is_offloaded(module):
            raise UnsupportedConfig(
                f"tuner {name!r} would train the bias of a {type(module).__name__} that device_map has offloaded; "
                "give it a device in device_map, or set bias to 'none'"
            )


def check_at_hand(model: nn.Module, name: str) -> None:
    """Raise CannotMerge if an adapter would be folded into weights that are offloaded, where it would be lost."""
    for path, layer in named_layers(model, name):
        if is_offloaded(unwrap(cast("nn.Module", layer))):
            raise CannotMerge(
                f"tuner {name!r} cannot be merged into {path!r}, whose weights device_map has offloaded; "
                "save it, and load the model without offloading to merge"
            )
