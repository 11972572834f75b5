"""PEFT's own injection, on a host that has adapters of any kind already, and PEFT's names for what was injected.

Some methods keep tensors that all their layers share in PEFT's model around the host. Here that model stays aside, is
never run, and only says how a checkpoint of PEFT's is laid out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple, cast

from peft import PeftConfig, PeftType
from peft.functional import get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from .errors import CheckpointMismatch
from .offloaded_weights import loaded_weights
from .peft_layers import PeftLayer, find_layers, without_others
from .targets import unwrap


class SharedPlace(NamedTuple):
    """A container of PEFT's model, and a layer that holds it too."""

    path: str
    layer: PeftLayer
    attribute: str


class Injection:
    """One adapter in a host.

    Args:
        config: PEFT's config; PEFT fills in what it leaves open.
        model: the host, changed in place.
        name: the adapter's name.
    """

    def __init__(self, config: PeftConfig, model: nn.Module, name: str) -> None:
        self.name = name
        self._model = model
        others: dict[str, PeftConfig] = dict(getattr(model, "peft_config", {}))
        held = [(layer, _containers_of(layer)) for _, _, layer in find_layers(model)]
        # Methods compare a new config with all others as if they were of their own kind.
        _set_configs(model, {key: each for key, each in others.items() if each.peft_type == config.peft_type})
        try:
            with warnings.catch_warnings():
                # Several adapters on one model are what we want.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                self.tuner = _on_bare_host(config)(model, config, adapter_name=name)
            # From here on it is PEFT's, whose class pickle finds.
            self.tuner.__class__ = cast("type[BaseTuner]", type(self.tuner).__base__)
            _unnest_tied_tokens(model)
            self.tuner._cast_adapter_dtype(adapter_name=name)
            _tie_again(model, name)
            self._shared = self._find_shared()
        except BaseException:
            _set_configs(model, others)
            raise
        finally:
            _join_containers(held)
        self.tuner.peft_config = {**others, name: config}
        _set_configs(model, self.tuner.peft_config)

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors under the keys that PEFT's checkpoints have."""
        with without_others(self._model, self.name):
            # Without the explicit False, PEFT asks the hub whether the base model's vocabulary has changed.
            state: dict[str, Tensor] = get_peft_model_state_dict(
                self._as_peft(), adapter_name=self.name, save_embedding_layers=False
            )
        return {key: tensor.detach() for key, tensor in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy tensors under PEFT's keys into the adapter.

        Raises:
            CheckpointMismatch: PEFT finds no place for a tensor, or none for a tensor of the adapter.
        """
        own = self.state()
        with without_others(self._model, self.name), warnings.catch_warnings():
            # Whether projections are saved or made again from a seed is the config's choice.
            warnings.filterwarnings("ignore", message="Specified to not load")
            result: Any = set_peft_model_state_dict(self._as_peft(), dict(state), adapter_name=self.name)
        # What is missing is no matter of PEFT's answer, which names the whole model's tensors.
        missing = [key for key in own if key not in state]
        surplus = list(result.unexpected_keys)
        if missing or surplus:
            lacks = f"lacks {missing[0]!r}" if missing else f"holds {surplus[0]!r}, for which PEFT finds no place"
            raise CheckpointMismatch(f"the state for adapter {self.name!r} {lacks}; expected the keys of its own state")

    def host_state(self) -> dict[str, Tensor]:
        """Return all of the model's tensors, as they are named beside this adapter alone."""
        with without_others(self._model, self.name):
            return self._model.state_dict()

    def _find_shared(self) -> list[SharedPlace]:
        ours = {
            f"{child}.{path}" if path else child: module
            for child, container in self.tuner.named_children()
            if child != "model"
            for path, module in container.named_modules()
        }
        found: dict[str, SharedPlace] = {}
        for _, _, layer in find_layers(self._model):
            for attribute, container in _containers_of(layer).items():
                for path, module in ours.items():
                    if module is container:
                        found.setdefault(path, SharedPlace(path, layer, attribute))
        return list(found.values())

    def _as_peft(self) -> nn.Module:
        self.tuner.peft_config = cast("Any", self._model).peft_config
        for place in self._shared:
            # A later adapter, or a move to another device, can have given the layers other containers.
            parent, _, child = place.path.rpartition(".")
            self.tuner.get_submodule(parent)._modules[child] = getattr(place.layer, place.attribute)
        return _PeftView(self.tuner)


class _PeftView(nn.Module):
    """What is read of PEFT's PeftModel when it is saved and loaded."""

    def __init__(self, tuner: BaseTuner) -> None:
        super().__init__()
        self.base_model = tuner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever PEFT's model or the host has
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["base_model"], name)


def _on_bare_host(config: PeftConfig) -> type[BaseTuner]:
    """Return the method's class, changed to measure the host's own modules and not the layers around them."""
    base = PEFT_TYPE_TO_TUNER_MAPPING[cast("PeftType", config.peft_type)]

    def before_injection(self: Any, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:  # noqa: ANN401  # of `base`
        with without_others(model, None):
            base._pre_injection_hook(self, model, config, adapter_name)
            if hasattr(base, "_build_target_key_mapping"):
                self._target_key_to_idx[adapter_name] = base._build_target_key_mapping(self, config)

    def with_weights(self: Any, config: PeftConfig, name: str, target: nn.Module, *args: Any, **named: Any) -> None:  # noqa: ANN401  # of `base`
        with loaded_weights(unwrap(target)):
            base._create_and_replace(self, config, name, target, *args, **named)

    changed = {"_pre_injection_hook": before_injection, "_create_and_replace": with_weights}
    return type(base.__name__, (base,), changed)


def _unnest_tied_tokens(model: nn.Module) -> None:
    """Take out the layer that PEFT puts inside a tied head's own when a second adapter trains tokens of the embedding.

    Both follow the embedding's layer, so the outer one has the new adapter already.
    """
    for _, _, layer in find_layers(model):
        outer: Any = layer
        inner: Any = getattr(outer, "base_layer", None)
        if hasattr(outer, "tied_adapter") and getattr(inner, "tied_adapter", None) is not None:
            outer.base_layer = inner.base_layer


def _tie_again(model: nn.Module, adapter: str) -> None:
    """Let the adapters of embedding and head share memory again (`ensure_weight_tying`), and their layer be copied.

    PEFT casts each by itself, and keeps in the layer what the tied ones came from: no leaves, which cannot be copied.
    Needless once PEFT ties consistently: https://github.com/huggingface/peft/issues/2864
    """
    for _, _, layer in find_layers(model):
        head: Any = layer
        if getattr(head, "kwargs", {}).pop("tied_adapter", None) and adapter in head.lora_A:
            embedding: Any = cast("Any", model).get_input_embeddings()
            pairs = ((head.lora_A, embedding.lora_embedding_B), (head.lora_B, embedding.lora_embedding_A))
            for tied, source in pairs:
                tied[adapter].weight = nn.Parameter(source[adapter].detach().t())


def _set_configs(model: nn.Module, configs: dict[str, PeftConfig]) -> None:
    if configs:
        model.peft_config = configs  # type: ignore[assignment]  # a dict, where torch expects tensors and modules
    elif "peft_config" in vars(model):
        del model.peft_config


def _containers_of(layer: PeftLayer) -> dict[str, nn.Module]:
    names = (*layer.adapter_layer_names, *layer.other_param_names)
    found = {name: attrgetter(name)(layer) for name in names if "." not in name}
    return {name: each for name, each in found.items() if isinstance(each, nn.Module)}


def _join_containers(held: list[tuple[PeftLayer, dict[str, nn.Module]]]) -> None:
    """Let layers keep their earlier adapters where PEFT gave them another container, with the new adapter only."""
    joined: dict[tuple[int, int], nn.Module] = {}
    for layer, containers in held:
        for attribute, old in containers.items():
            new = getattr(layer, attribute)
            if new is old:
                continue
            # Layers that shared a container share the new one too.
            if (id(old), id(new)) not in joined:
                joined[id(old), id(new)] = _join(old, new)
            setattr(layer, attribute, joined[id(old), id(new)])


def _join(old: Any, new: Any) -> nn.Module:  # noqa: ANN401  # ModuleDict, ParameterDict or PEFT's BufferDict
    both: Any = type(old)()
    if hasattr(old, "persistent"):
        both.persistent = old.persistent
    for container in (old, new):
        for name, item in container.items():
            both[name] = item
    return cast("nn.Module", both)
