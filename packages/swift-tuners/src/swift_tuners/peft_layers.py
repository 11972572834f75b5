"""PEFT's layers, one adapter at a time: what is on, what is there, and the host's module back in its place.

PEFT's own functions switch and delete on the whole model at once. A layer here is a module that PEFT put in the place
of one of the host's: one with adapters around the host's module, one with copies of it that train in full
(`modules_to_save`), or one with rows of its own for some tokens (`trainable_token_indices`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Protocol, cast

from torch import Tensor, nn

from .errors import UnsupportedConfig
from .targets import is_wrapper, unwrap

_IN_FULL = ("modules_to_save",)
_TOKENS = ("token_adapter.trainable_tokens_delta",)
# Layers that compute with one adapter only, whichever are on: copies in full, LN tuning, OSF.
_ONE_AT_A_TIME = (_IN_FULL, ("ln_tuning_layers",), ("osf_svd_params",))


class PeftLayer(Protocol):
    """What is used of a layer here; the classes are PEFT's own."""

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
    """Return every layer once, with its parent and its first name there; outer ones come before those inside them."""
    modules = dict(model.named_modules())
    return [
        (parent, name, cast("PeftLayer", child))
        for path, parent in modules.items()
        for name, child in parent.named_children()
        # Around trainable tokens PEFT puts two modules, of which the outer one switches the inner one too.
        if is_wrapper(child) and not (name == "token_adapter" and is_wrapper(parent))
        # Torch gives a module under several names the first one.
        if f"{path}.{name}".removeprefix(".") in modules
    ]


def find_places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Return where each module stands, by its identity: the parents and its names there; several, if it has aliases."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, child in parent._modules.items():
            found.setdefault(id(child), []).append((parent, name))
    return found


class Aliases:
    """The modules of a host that stand in several places, of which PEFT changes the first only.

    Args:
        model: the host, before an injection.
    """

    def __init__(self, model: nn.Module) -> None:
        self._groups = [
            (places[0][0]._modules[places[0][1]], places) for places in find_places(model).values() if len(places) > 1
        ]

    def follow(self) -> None:
        """Put the layer that PEFT has put into one place of a module into its others too.

        Where a module trains in full or in rows for tokens, PEFT can have put a layer into each place: one stays.
        """
        for before, places in self._groups:
            present = [parent._modules.get(child) for parent, child in places]
            layer = next((each for each in present if each is not before and is_wrapper(each)), None)
            if layer is None or before is None:
                continue
            for parent, child in places:
                present_here = parent._modules.get(child)
                if present_here is before or (is_wrapper(present_here) and inside(cast("Any", present_here)) is before):
                    parent._modules[child] = layer


def named_layers(model: nn.Module, adapter: str) -> list[tuple[str, PeftLayer]]:
    """Return the layers that hold an adapter, by their full names."""
    layers = [(path, cast("PeftLayer", module)) for path, module in model.named_modules() if is_wrapper(module)]
    return [(path, layer) for path, layer in layers if adapter in adapters_in(layer)]


def trains_in_full(layer: PeftLayer) -> bool:
    """Say whether the layer holds copies of the host's module, and no adapters around it."""
    return layer.adapter_layer_names == _IN_FULL


def trains_tokens(layer: PeftLayer) -> bool:
    """Say whether the layer holds rows of an embedding beside an adapter of another kind."""
    return layer.adapter_layer_names == _TOKENS


def trains_bias(layer: PeftLayer, adapter: str) -> bool:
    """Say whether an adapter adds to its layer's bias."""
    return "beft_bias" in layer.adapter_layer_names or bool(getattr(layer, "lora_bias", {}).get(adapter))


def mixes_rows(layer: PeftLayer) -> bool:
    """Say whether what the layer does to one row depends on the other rows of the batch: Lily's router does."""
    return "lily_router" in layer.adapter_layer_names


def merging_part(layer: PeftLayer) -> Any:  # noqa: ANN401  # one of PEFT's layers
    """Return the module that can merge adapters: the layer, or what it holds for tokens."""
    return cast("Any", layer).token_adapter if trains_tokens(layer) else layer


def adapters_in(layer: PeftLayer) -> list[str]:
    """Return the adapters of a layer, in the order in which they were attached."""
    names = (name for container in _containers(layer, layer.adapter_layer_names) for name in container)
    return list(dict.fromkeys(names))


def trained_in(layer: PeftLayer, adapter: str) -> list[nn.Parameter]:
    """Return what an adapter trains in a layer."""
    frozen = getattr(layer, "frozen_peft_weight_names", {}).get(adapter, ())
    names = [name for name in layer.adapter_layer_names if name not in frozen]
    return [
        tensor
        for tensor in _tensors_of(_containers(layer, names), adapter)
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
    ]


def tensors_in(layer: PeftLayer, adapter: str) -> list[Tensor]:
    """Return all tensors that a layer holds for an adapter, frozen ones too."""
    part = merging_part(layer)
    return _tensors_of(_containers(part, [*part.adapter_layer_names, *part.other_param_names]), adapter)


def active_in(layer: PeftLayer) -> list[str]:
    """Return the adapters of a layer that are on."""
    held = adapters_in(layer)
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in held]


def check_active(layer: PeftLayer, names: Sequence[str]) -> None:
    """Raise UnsupportedConfig if these adapters cannot be on at once."""
    if len(names) < 2:  # two or more
        return
    tuners = " and ".join(map(repr, names))
    if layer.adapter_layer_names in _ONE_AT_A_TIME:
        how = "in full (modules_to_save)" if trains_in_full(layer) else "by a method that allows one tuner at a time"
        raise UnsupportedConfig(
            f"tuners {tuners} train the same module {how}; only one of them can be active: deactivate the other first"
        )
    tokens = [set(each) for name, each in getattr(merging_part(layer), "token_indices", {}).items() if name in names]
    if len(set().union(*tokens)) < sum(map(len, tokens)):
        raise UnsupportedConfig(
            f"tuners {tuners} train the same tokens; only one of them can be active: deactivate the other first"
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


@contextmanager
def without_others(model: nn.Module, adapter: str | None) -> Iterator[None]:
    """Have the model as if it had this one adapter only, or none at all, while the block runs.

    PEFT derives names of tensors and sizes of projections from the whole model, whoever its layers belong to.
    """
    foreign = [layer for _, _, layer in find_layers(model) if adapter is None or adapter not in all_names_in(layer)]
    places = find_places(model)
    # The inner ones first, so that an outer one is replaced by what is then inside it.
    for layer in reversed(foreign):
        for parent, child in places[id(layer)]:
            parent._modules[child] = inside(layer)
    # What stands under several names stands under the first one with PEFT.
    left = find_places(model)
    hidden = [
        (parent, child, cast("nn.Module", layer))
        for first_parent, first_child, layer in find_layers(model)
        for parent, child in left[id(layer)]
        if (parent, child) != (first_parent, first_child)
    ]
    for parent, child, module in hidden:
        parent._modules[child] = unwrap(module)
    try:
        yield
    finally:
        for parent, child, module in hidden:
            parent._modules[child] = module
        for layer in foreign:
            for parent, child in places[id(layer)]:
                parent._modules[child] = cast("nn.Module", layer)


def remove_adapter(model: nn.Module, adapter: str) -> None:
    """Delete an adapter from every layer that holds anything of it, also after half an injection.

    Where it was a layer's last one, the host's module takes the layer's place.
    """
    places = find_places(model)
    # The inner ones first: one adapter can have several layers around one module.
    for _, _, layer in reversed(find_layers(model)):
        held = all_names_in(layer)
        if adapter not in held:
            continue
        if held == {adapter}:
            for parent, child in places[id(layer)]:
                parent._modules[child] = inside(layer)
            continue
        # First off, then away: deleting an adapter that is on makes PEFT switch another one on.
        active = [name for name in active_in(layer) if name != adapter]
        set_active(layer, active)
        options = {"new_active_adapters": active} if trains_in_full(layer) or trains_tokens(layer) else {}
        layer.delete_adapter(adapter, **options)
        # Some layers leave to PEFT's model what they share.
        for container in _containers(layer, [*layer.adapter_layer_names, *layer.other_param_names]):
            if adapter in container:
                del cast("Any", container)[adapter]


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
        if not (foreign and part in ("base_layer", "original_module", "token_adapter")):
            kept.append(part)
        module = getattr(module, part, None) if isinstance(module, nn.Module) else None
    return ".".join(kept)


def inside(layer: PeftLayer) -> nn.Module:
    """Return what the layer was put around: the host's module, or another layer."""
    part = merging_part(layer)
    return cast("nn.Module", part.original_module if trains_in_full(layer) else part.base_layer)


def all_names_in(layer: PeftLayer) -> set[str]:
    """Return the adapters of which a layer holds anything, trained or not."""
    part = merging_part(layer)
    names = [*part.adapter_layer_names, *part.other_param_names]
    return {name for container in _containers(part, names) for name in container}


def _containers(layer: Any, names: Sequence[str]) -> list[Mapping[str, object]]:  # noqa: ANN401  # one of PEFT's layers
    """Return those attributes of a layer that hold something by adapter."""
    found = [attrgetter(name)(layer) for name in names]
    return [each for each in found if hasattr(each, "keys")]


def _tensors_of(containers: Sequence[Mapping[str, object]], adapter: str) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for container in containers:
        if adapter in container:
            found.update((id(tensor), tensor) for tensor in _flatten(container[adapter]))
    return list(found.values())


def _flatten(item: object) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, nn.Module):
        yield from item.parameters()
        yield from item.buffers()
    elif isinstance(item, dict | list | tuple):
        for each in item.values() if isinstance(item, dict) else item:
            yield from _flatten(each)
