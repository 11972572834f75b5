"""PEFT's layers, one adapter at a time: what is on, what is there, and the host's module back in its place.

PEFT's own functions switch and delete on the whole model at once. A layer here is a module that PEFT put in the place
of one of the host's: one with adapters around the host's module, or one with copies of it that train in full
(`modules_to_save`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from torch import nn

from .errors import UnsupportedConfig
from .targets import is_wrapper, unwrap


class PeftLayer(Protocol):
    """What is used of a layer here; only `peft_tuner` imports PEFT's own classes."""

    adapter_layer_names: tuple[str, ...]
    other_param_names: tuple[str, ...]

    @property
    def disable_adapters(self) -> bool:
        """Whether the layer computes as the host's module does."""
        ...

    @property
    def active_adapters(self) -> list[str]:
        """Names that are on, also of adapters that this layer does not hold."""
        ...

    def set_adapter(self, adapter_names: list[str]) -> None:
        """Switch exactly these on."""
        ...

    def enable_adapters(self, enabled: bool) -> None:
        """Let the layer use what is on, or compute as the host's module does."""
        ...

    def delete_adapter(self, adapter_name: str, **options: list[str]) -> None:
        """Forget one."""
        ...


def find_layers(model: nn.Module) -> list[tuple[nn.Module, str, PeftLayer]]:
    """Return every layer with its parent and its name there; outer layers come before those inside them."""
    children = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()]
    return [(parent, name, cast("PeftLayer", child)) for parent, name, child in children if is_wrapper(child)]


def named_layers(model: nn.Module, adapter: str) -> list[tuple[str, PeftLayer]]:
    """Return the layers that hold an adapter, by their full names."""
    layers = [(path, cast("PeftLayer", module)) for path, module in model.named_modules() if is_wrapper(module)]
    return [(path, layer) for path, layer in layers if adapter in adapters_in(layer)]


def trains_in_full(layer: PeftLayer) -> bool:
    """Say whether the layer holds copies of the host's module, and no adapters around it."""
    return layer.adapter_layer_names == ("modules_to_save",)


def adapters_in(layer: PeftLayer) -> list[str]:
    """Return the adapters of a layer, in the order in which they were attached."""
    names = (name for attribute in layer.adapter_layer_names for name in getattr(layer, attribute))
    return list(dict.fromkeys(names))


def parameters_in(layer: PeftLayer, adapter: str) -> dict[str, nn.Parameter]:
    """Return what an adapter trains in a layer, by its name there."""
    found: dict[str, nn.Parameter] = {}
    frozen = getattr(layer, "frozen_peft_weight_names", {}).get(adapter, ())
    for attribute in layer.adapter_layer_names:
        container = getattr(layer, attribute)
        if attribute in frozen or adapter not in container:
            continue
        item, path = container[adapter], f"{attribute}.{adapter}"
        parameters = {"": item} if isinstance(item, nn.Parameter) else dict(item.named_parameters())
        for name, parameter in parameters.items():
            if parameter.is_floating_point():
                found[f"{path}.{name}" if name else path] = parameter
    return found


def active_in(layer: PeftLayer) -> list[str]:
    """Return the adapters of a layer that are on."""
    held = adapters_in(layer)
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in held]


def check_active(layer: PeftLayer, names: Sequence[str]) -> None:
    """Raise UnsupportedConfig if these adapters cannot be on at once."""
    if trains_in_full(layer) and len(names) > 1:
        raise UnsupportedConfig(
            f"tuners {' and '.join(map(repr, names))} train the same module in full (modules_to_save); "
            "only one of them can be active: deactivate the other first"
        )


def set_active(layer: PeftLayer, names: Sequence[str]) -> None:
    """Switch exactly these adapters on, those of other layers left aside.

    They are summed in the order in which they were attached, whatever the order of switching: the sum stays the same.
    """
    ordered = [name for name in adapters_in(layer) if name in names]
    check_active(layer, ordered)
    layer.set_adapter(ordered)
    # With none on, some layers compute bit for bit as the host does only when they are disabled as well.
    layer.enable_adapters(bool(ordered))


def remove_adapter(model: nn.Module, adapter: str) -> None:
    """Delete an adapter from every layer that holds anything of it, also after half an injection.

    Where it was a layer's last one, the host's module takes the layer's place.
    """
    for parent, child, layer in find_layers(model):
        held = _all_names_in(layer)
        # Taking an outer layer out can have taken this one with it.
        if adapter not in held or getattr(parent, child) is not layer:
            continue
        if held == {adapter}:
            setattr(parent, child, _take_out(layer))
            continue
        # First off, then away: deleting an adapter that is on makes PEFT switch another one on.
        active = [name for name in active_in(layer) if name != adapter]
        set_active(layer, active)
        options = {"new_active_adapters": active} if trains_in_full(layer) else {}
        layer.delete_adapter(adapter, **options)


def take_mode_of_host(layer: PeftLayer, host: set[int]) -> None:
    """Put a layer's new modules into its host module's mode: PEFT makes them in training mode, with dropout on.

    Args:
        layer: after an injection.
        host: ids of the modules that were there before.
    """
    module = cast("nn.Module", layer)
    mode = unwrap(module).training
    for each in module.modules():
        if id(each) not in host:
            each.training = mode


def plain_key(model: nn.Module, key: str, adapter: str) -> str:
    """Return a state dict key as it would be without the layers of other tuners around and inside the adapter's own."""
    kept: list[str] = []
    module: object = model
    for part in key.split("."):
        foreign = is_wrapper(module) and adapter not in adapters_in(cast("PeftLayer", module))
        if not (foreign and part in ("base_layer", "original_module")):
            kept.append(part)
        module = getattr(module, part, None) if isinstance(module, nn.Module) else None
    return ".".join(kept)


def _all_names_in(layer: PeftLayer) -> set[str]:
    containers = [getattr(layer, name) for name in (*layer.adapter_layer_names, *layer.other_param_names)]
    return {name for container in containers if hasattr(container, "keys") for name in container}


def _take_out(layer: PeftLayer) -> nn.Module:
    if trains_in_full(layer):
        return cast("nn.Module", layer.original_module)  # type: ignore[attr-defined]  # a ModulesToSaveWrapper
    if hasattr(layer, "unload_and_optionally_merge_module"):
        # torch's MultiheadAttention: PEFT took it apart and puts it together again.
        return cast("nn.Module", layer.unload_and_optionally_merge_module(False, False, None))
    return cast("nn.Module", layer.base_layer)  # type: ignore[attr-defined]  # a BaseTunerLayer
