"""Any PEFT config on any torch module; the one module that imports peft.

PEFT's layers are injected in place, without a PeftModel around the host, and saved in PEFT's own checkpoint format, so
that users of PEFT and vLLM load them.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as LoraConfig
from peft import PeftConfig
from peft.functional import (
    cast_adapter_dtype,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .checkpoint import PEFT_CONFIG_FILE
from .errors import (
    CannotMerge,
    CheckpointMismatch,
    DuplicateName,
    InvalidCheckpoint,
    InvalidName,
    SwiftTunersError,
    UnsupportedConfig,
)
from .host_weights import SwappedParameter, find_shared, record_untied, untie
from .peft_layers import (
    PeftLayer,
    active_in,
    adapters_in,
    check_active,
    find_layers,
    named_layers,
    parameters_in,
    plain_key,
    remove_adapter,
    set_active,
    take_mode_of_host,
    trains_in_full,
)
from .targets import ALL_LINEAR, find_targets, is_wrapper, unwrap
from .tuner import Phase, Tuner
from .weights import check_state, read_safetensors, write_safetensors

PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
_KEY_PREFIX = "base_model.model."
# Starts that leave the base weights alone; the others change them, and a removal could not restore them.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal")
_LATER_OPTIONS = ("layer_replication", "trainable_token_indices", "loftq_config", "kasa_config")


class PeftTuner(Tuner[PeftConfig]):
    """A tuner that PEFT implements.

    Args:
        config: PEFT's config; it is copied, never changed.
        name: the adapter's name.
        from_checkpoint: the config was saved with an adapter: its targets need not all be there, the weights will tell.
    """

    phase = Phase.WRAP

    def __init__(self, config: PeftConfig, *, name: str, from_checkpoint: bool = False) -> None:
        super().__init__(copy.deepcopy(config), name=name)
        self.from_checkpoint = from_checkpoint
        self._model: nn.Module | None = None
        self._biases: list[SwappedParameter] = []

    @property
    def kind(self) -> str:
        """PEFT's type in lower case, such as 'lora'."""
        return str(getattr(self.config.peft_type, "value", self.config.peft_type)).lower()

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    def attach(self, model: nn.Module) -> None:
        """Inject the adapter, active, in float32 whatever the host's type; other adapters stay as they were.

        Raises:
            UnsupportedConfig: PEFT cannot inject this config into this model.
            TargetNotFound: a target names no module.
            DuplicateName: the model has an adapter of this name.
            InvalidName: the name is one that the model or torch uses.
        """
        _check_supported(self.config)
        _check_name(model, self.name)
        self._resolve_targets(model)
        modules, parameters = {id(module) for module in model.modules()}, list(model.parameters())
        states = [(layer, active_in(layer)) for _, _, layer in find_layers(model)]
        try:
            with warnings.catch_warnings():
                # Several adapters on one model are what we want.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                inject_adapter_in_model(self.config, model, adapter_name=self.name)
            cast_adapter_dtype(model, adapter_name=self.name)
            self._model, self.active = model, True
            self._biases = self._find_biases(parameters)
            for layer, active in states:
                set_active(layer, [*active, self.name])
            for _, _, layer in self._layers():
                take_mode_of_host(layer, modules)
        except BaseException as error:
            self._remove_from(model)
            self._model = None
            for layer, active in states:
                set_active(layer, active)
            if isinstance(error, SwiftTunersError) or not isinstance(
                error, ValueError | TypeError | NotImplementedError
            ):
                raise
            if self.from_checkpoint:
                raise CheckpointMismatch(
                    f"adapter {self.name!r} does not fit this model: {error}; {self._compare_bases(model)}"
                ) from error
            raise UnsupportedConfig(f"PEFT cannot attach {self.kind} tuner {self.name!r}: {error}") from error

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the adapter's trained parameters, and the host's biases that train with it."""
        found = {
            f"{path}.{name}": parameter
            for path, layer in named_layers(self.model, self.name)
            for name, parameter in parameters_in(layer, self.name).items()
        }
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return found | {names[id(bias.parameter)]: bias.parameter for bias in self._biases}

    def activate(self, active: bool) -> None:
        """Switch the adapter on or off.

        Raises:
            UnsupportedConfig: another active tuner trains the same module in full (`modules_to_save`).
        """
        if active == self.active:
            return
        wanted: list[tuple[PeftLayer, list[str]]] = []
        for _, _, layer in self._layers():
            names = [name for name in active_in(layer) if name != self.name]
            wanted.append((layer, [*names, self.name] if active else names))
        for layer, names in wanted:
            check_active(layer, names)
        for layer, names in wanted:
            set_active(layer, names)
        for bias in self._biases:
            bias.swap()
        self.active = active

    def detach(self) -> None:
        """Take the adapter off; where it was a layer's last one, the host's module stands in its place again."""
        self.activate(False)
        self._remove_from(self.model)
        self._model, self._biases = None, []

    def check_merge(self) -> None:
        """Raise CannotMerge if the method cannot be folded into weights, or the adapter holds NaN."""
        broken = [name for name, parameter in self.parameters().items() if not torch.isfinite(parameter).all()]
        if broken:
            raise CannotMerge(f"tuner {self.name!r} holds values that are not finite, in {broken[0]!r}; train it again")
        for _, _, layer in self._layers():
            # The base class's own does nothing but raise.
            if getattr(type(layer), "merge", None) is BaseTunerLayer.merge:
                raise CannotMerge(f"{self.kind} tuner {self.name!r} cannot be folded into weights; save it instead")

    def merge(self) -> None:
        """Fold the adapter into the host's weights, rounding once to their type, and take it off.

        Raises:
            CannotMerge: see `check_merge`; or the adapter lies on top of another one, which must be merged first.
        """
        self.check_merge()
        for path, layer in named_layers(self.model, self.name):
            inner: Any = getattr(layer, "base_layer", None)
            if is_wrapper(inner) and self.name not in adapters_in(inner):
                below = ", ".join(repr(name) for name in adapters_in(inner))
                raise CannotMerge(f"tuner {self.name!r} lies on {below} at {path!r}; merge or detach that one first")
        self.activate(True)
        shared = find_shared(self.model)
        for parent, child, layer in cast("list[tuple[nn.Module, str, Any]]", self._layers()):
            if getattr(parent, child) is not layer:
                continue
            if trains_in_full(layer):
                layer.original_module = layer.modules_to_save[self.name]
                continue
            untie(unwrap(layer), shared)
            layer.merge(adapter_names=[self.name])
            # PEFT would leave the layer's other adapters out for as long as this one counts as merged.
            layer.merged_adapters.remove(self.name)
        model, self._biases = self.model, []
        self.detach()
        record_untied(model)

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors under PEFT's keys, without PEFT's prefix."""
        return {key: tensor for key, (_, tensor) in self._keyed_state().items()}

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the adapter. Raises CheckpointMismatch; then nothing is copied."""
        own = self._keyed_state()
        expected = {key: tensor for key, (_, tensor) in own.items()}
        check_state(state, expected, origin=origin, base=self._compare_bases(self.model))
        with self._tuned_biases():
            given = {model_key: state[key] for key, (model_key, _) in own.items()}
            set_peft_model_state_dict(self.model, given, adapter_name=self.name)

    def save(self, folder: Path) -> None:
        """Write PEFT's adapter_config.json and adapter_model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {_KEY_PREFIX + key: tensor for key, tensor in self.state().items()}
        write_safetensors(tensors, folder / PEFT_WEIGHTS_FILE)
        config = copy.deepcopy(self.config)
        config.base_model_name_or_path = _name_of(self.model) or config.base_model_name_or_path
        config.inference_mode = True
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if isinstance(value, set):
                # PEFT writes sets in an order that changes from process to process.
                setattr(config, field.name, sorted(value))
        host = type(self.model)
        mapping = {"base_model_class": host.__name__, "parent_library": host.__module__}
        config.save_pretrained(str(folder), auto_mapping_dict=mapping if config.task_type is None else None)

    def load(self, folder: Path) -> None:
        """Read the weights of a PEFT checkpoint, ours or PEFT's own, into the attached adapter.

        Raises:
            InvalidCheckpoint: the file is missing, truncated or foreign.
            CheckpointMismatch: the checkpoint belongs to another base model.
        """
        tensors = read_safetensors(folder / PEFT_WEIGHTS_FILE)
        state = {key.removeprefix(_KEY_PREFIX): tensor for key, tensor in tensors.items()}
        origin = f"adapter {str(folder)!r}"
        self.load_state(self._without_base_weights(state, origin), origin=origin)

    def _without_base_weights(self, state: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
        """Leave out copies of the host's embeddings, which PEFT saves with an adapter on them."""
        own, host = self._keyed_state(), self.model.state_dict()
        copies = [key for key in state if key not in own and key in host]
        for key in copies:
            if not torch.equal(state[key].to(host[key].device), host[key]):
                raise CheckpointMismatch(
                    f"{origin} brings {key} of its base model along, which is another one here; "
                    f"{self._compare_bases(self.model)}"
                )
        return {key: tensor for key, tensor in state.items() if key not in copies}

    def _resolve_targets(self, model: nn.Module) -> None:
        """Spell out 'all-linear', and refuse entries that match nothing, which PEFT would pass over."""
        if self.from_checkpoint:
            return
        targets = getattr(self.config, "target_modules", None)
        if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
            targets = [ALL_LINEAR]
        if targets:
            found = find_targets(model, targets if isinstance(targets, str) else sorted(targets))
            if ALL_LINEAR in targets and not isinstance(targets, str):
                cast("Any", self.config).target_modules = set(found)
        to_save = getattr(self.config, "modules_to_save", None)
        if to_save:
            find_targets(model, list(to_save))

    def _find_biases(self, host: list[nn.Parameter]) -> list[SwappedParameter]:
        if getattr(self.config, "bias", "none") == "none":
            return []
        biases = {id(parameter) for name, parameter in self.model.named_parameters() if name.endswith("bias")}
        return [SwappedParameter(each) for each in host if each.requires_grad and id(each) in biases]

    @contextmanager
    def _tuned_biases(self) -> Iterator[None]:
        """Have the tuned biases in the model, also while the tuner is off."""
        swapped = [] if self.active else self._biases
        for bias in swapped:
            bias.swap()
        try:
            yield
        finally:
            for bias in swapped:
                bias.swap()

    def _keyed_state(self) -> dict[str, tuple[str, Tensor]]:
        """Return, by the key in a checkpoint, the key that PEFT would use in this model, and the tensor."""
        with self._tuned_biases():
            # Without the explicit False, PEFT asks the hub whether the base model's vocabulary has changed.
            raw = get_peft_model_state_dict(self.model, adapter_name=self.name, save_embedding_layers=False)
        return {plain_key(self.model, key, self.name): (key, tensor.detach()) for key, tensor in raw.items()}

    def _layers(self) -> list[tuple[nn.Module, str, PeftLayer]]:
        return [each for each in find_layers(self.model) if self.name in adapters_in(each[2])]

    def _remove_from(self, model: nn.Module) -> None:
        remove_adapter(model, self.name)
        configs = getattr(model, "peft_config", {})
        configs.pop(self.name, None)
        if not configs and "peft_config" in vars(model):
            del model.peft_config

    def _compare_bases(self, model: nn.Module) -> str:
        made_for, here = self.config.base_model_name_or_path, _name_of(model) or type(model).__name__
        return f"it was made for {made_for!r}, this is {here!r}"


def read_peft_config(folder: Path) -> PeftConfig:
    """Read the adapter_config.json of a PEFT checkpoint, without asking a hub.

    Raises:
        InvalidCheckpoint: the file is missing, damaged, or of a type that the installed PEFT does not know.
    """
    path = folder / PEFT_CONFIG_FILE
    if not path.is_file():
        raise InvalidCheckpoint(f"{str(path)!r} does not exist; expected the folder of a PEFT adapter")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no JSON: {error}; the checkpoint is damaged") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("peft_type"), str):
        raise InvalidCheckpoint(f"{str(path)!r} names no peft_type; expected a config that PEFT wrote")
    try:
        return PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no config that this version of PEFT reads: {error!r}") from error


def _check_supported(config: PeftConfig) -> None:
    kind = type(config).__name__
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UnsupportedConfig(
            f"{kind} adds to the model's input, which is not supported yet; use another, such as LoRA"
        )
    start = getattr(config, "init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise UnsupportedConfig(f"init_lora_weights={start!r} is not supported yet; expected one of {_PLAIN_STARTS}")
    for option in _LATER_OPTIONS:
        if getattr(config, option, None):
            raise UnsupportedConfig(f"{option} of {kind} is not supported yet; leave it out")


def _check_name(model: nn.Module, name: str) -> None:
    if name in getattr(model, "peft_config", {}):
        raise DuplicateName(f"the model has an adapter {name!r} already; choose another name, or detach that one first")
    parts = {part for path, _ in [*model.named_modules(), *model.named_parameters()] for part in path.split(".")}
    # PEFT tells adapters apart by this part of a parameter's name, and torch keeps them in a ModuleDict.
    if name in parts or hasattr(nn.ModuleDict, name):
        raise InvalidName(f"the tuner's name {name!r} is also that of a part of the model or of torch; choose another")


def _name_of(model: nn.Module) -> str | None:
    """Return the id or folder that a transformers model was loaded from."""
    name = getattr(model, "name_or_path", None)
    return name if isinstance(name, str) and name else None
