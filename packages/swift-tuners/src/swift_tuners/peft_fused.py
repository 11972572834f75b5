"""torch's own encoder layers, which outside training compute all at once from weights, so that no adapter is called.

Without this an adapter trains, and then does nothing; one on a norm ends in an AttributeError. While an adapter inside
of such a layer is on, the layer calls its modules one by one, as it does in training. Needless once torch asks the
modules themselves: https://github.com/huggingface/peft/issues/761
"""

from __future__ import annotations

from typing import cast

from torch import nn

from .peft_layers import PeftLayer, active_in
from .targets import is_wrapper, unwrap

# What these classes look at before they fuse, and the value that keeps them from it. Neither has another use.
_SWITCHES: tuple[tuple[type[nn.Module], str, int], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
)


def call_adapted_layers(model: nn.Module) -> None:
    """Keep those encoder layers from fusing that have an active adapter, and let the others fuse again.

    Args:
        model: the host, after adapters came, went or were switched.
    """
    for module in model.modules():
        for kind, switch, unfused in _SWITCHES:
            if isinstance(module, kind):
                _set(module, switch, unfused if _has_active(module) else None)
        if isinstance(module, nn.TransformerEncoderLayer):
            for child in module.children():
                _lend_norm(child)


def _has_active(module: nn.Module) -> bool:
    return any(is_wrapper(each) and active_in(cast("PeftLayer", each)) for each in module.modules())


def _lend_norm(child: nn.Module) -> None:
    """Let PEFT's layer around a norm, which has nothing of it, show what the encoder reads while the adapter is off."""
    norm = unwrap(child)
    if is_wrapper(child) and isinstance(norm, nn.LayerNorm) and not hasattr(child, "eps"):
        # Not as parameters: they are the norm's.
        vars(child).update(eps=norm.eps, weight=norm.weight, bias=norm.bias)


def _set(module: nn.Module, switch: str, value: int | None) -> None:
    """Give the switch another value, or with None its own again, which the module itself keeps: copies have it too."""
    attributes, kept = vars(module), f"_swift_{switch}"
    if value is not None and switch in attributes:
        attributes.setdefault(kept, attributes[switch])
        attributes[switch] = value
    elif value is None and kept in attributes:
        attributes[switch] = attributes.pop(kept)
