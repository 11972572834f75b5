"""PEFT's LoRA layers, computed in one step of autograd each, several at once where they read the same input.

PEFT's own forward writes the branch as four modules: each reads and writes the activations, a bfloat16 input is cast
to float32 as a whole, and dropout costs as much as all else together. `swift_kernels.lora_linears` computes the same
in one step. Query, key and value are told the same input one after another: which layers are, is seen in one forward
pass beforehand, and then the first that is called computes for the others too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, cast

import torch
from peft.tuners.lora import Linear as PeftLinear
from swift_kernels.lora import LoraLayer, lora_linears
from torch import Tensor, nn

_MARK = "_swift_quick_lora"


@dataclass(eq=False)
class _Siblings:
    """Layers of one parent that were told the same input, in the order in which they are called.

    Attributes:
        layers: those.
        x: the input that `outputs` are of.
        outputs: of layers that were not called yet.
    """

    layers: list[PeftLinear]
    x: Tensor | None = None
    outputs: dict[int, Tensor] = field(default_factory=dict)


def quicken_lora(model: nn.Module, show: Callable[[], object]) -> int:
    """Let the LoRA layers of a model train in one step each. Output and gradients stay the same but for rounding.

    What a layer is asked for is looked at in each call: with several adapters on, merged, switched off, with DoRA or
    another variant, around a quantized layer, or outside training, PEFT computes as before.

    Args:
        model: with its tuners.
        show: runs the model on any small input, so that it is seen which layers read the same; this leaves no trace.

    Returns:
        How many layers.
    """
    layers = [each for each in model.modules() if type(each) is PeftLinear and not hasattr(each, _MARK)]
    if not layers:
        return 0
    for siblings in _watch(model, layers, show):
        for layer in siblings.layers:
            vars(layer)[_MARK] = siblings
            layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]  # of this instance
    return len(layers)


def slow_lora(model: nn.Module) -> None:
    """Let PEFT compute again what `quicken_lora` took over."""
    for module in model.modules():
        if vars(module).pop(_MARK, None) is not None:
            del module.forward


def _forward(self: PeftLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401  # as PEFT's own
    adapter = None if args or kwargs else _trained_adapter(self)
    if adapter is None:
        return PeftLinear.forward(self, x, *args, **kwargs)
    siblings = cast("_Siblings", vars(self)[_MARK])
    if siblings.x is x and id(self) in siblings.outputs:
        output = siblings.outputs.pop(id(self))
        if not siblings.outputs:
            siblings.x = None
        return output
    together = [each for each in siblings.layers if each is self or _is_alike(each, self)]
    outputs = dict(zip(map(id, together), _compute(together, x), strict=True))
    output = outputs.pop(id(self))
    siblings.x, siblings.outputs = (x, outputs) if outputs else (None, {})
    return output


def _trained_adapter(layer: PeftLinear) -> str | None:
    """Return the one adapter that a layer trains with, or None where PEFT must compute."""
    if not layer.training or layer.disable_adapters or layer.merged_adapters or layer.fan_in_fan_out:
        return None
    active = [each for each in layer.active_adapters if each in layer.lora_A]
    if len(active) != 1 or active[0] in layer.lora_variant or layer.lora_bias.get(active[0]):
        return None
    parts = (layer.base_layer, layer.lora_A[active[0]], layer.lora_B[active[0]])
    # Others, and those with hooks, compute or gather something of their own.
    if any(type(each) is not nn.Linear or each._forward_hooks or each._forward_pre_hooks for each in parts):
        return None
    if type(layer.lora_dropout[active[0]]) not in (nn.Dropout, nn.Identity):
        return None
    weights = [cast("Tensor", each.weight) for each in parts]
    if any(type(each) not in (nn.Parameter, Tensor) or each.ndim != 2 for each in weights):
        return None
    return active[0]


def _dropout_of(layer: PeftLinear, adapter: str) -> float:
    return float(getattr(layer.lora_dropout[adapter], "p", 0.0))


def _is_alike(layer: PeftLinear, called: PeftLinear) -> bool:
    """Say whether a layer computes with the same adapter and dropout as the one that is called."""
    adapter = _trained_adapter(called)
    return (
        adapter is not None
        and _trained_adapter(layer) == adapter
        and _dropout_of(layer, adapter) == _dropout_of(called, adapter)
    )


def _compute(layers: Sequence[PeftLinear], x: Tensor) -> tuple[Tensor, ...]:
    adapter = cast("str", _trained_adapter(layers[0]))
    return lora_linears(
        x,
        [
            LoraLayer(
                cast("nn.Linear", each.base_layer).weight,
                cast("nn.Linear", each.base_layer).bias,
                cast("nn.Linear", each.lora_A[adapter]).weight,
                cast("nn.Linear", each.lora_B[adapter]).weight,
                float(each.scaling[adapter]),
            )
            for each in layers
        ],
        dropout_p=_dropout_of(layers[0], adapter),
    )


def _watch(model: nn.Module, layers: Sequence[PeftLinear], show: Callable[[], object]) -> list[_Siblings]:
    """Run the model once and return the layers in groups of those that were told the same tensor."""
    told: dict[PeftLinear, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        told.setdefault(cast("PeftLinear", layer), inputs[0])

    watches = [layer.register_forward_pre_hook(note) for layer in layers]
    was_training = model.training
    try:
        with torch.random.fork_rng(), torch.no_grad():
            model.eval()
            show()
    finally:
        model.train(was_training)
        for watch in watches:
            watch.remove()
    groups: dict[int, list[PeftLinear]] = {}
    for layer in layers:
        # Tensors that `told` keeps have identities of their own.
        groups.setdefault(id(told.get(layer, layer)), []).append(layer)
    return [_Siblings(group) for group in groups.values()]
