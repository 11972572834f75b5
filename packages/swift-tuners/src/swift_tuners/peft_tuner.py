"""Any PEFT config that puts layers into a model, on any torch module.

PEFT's layers are injected in place, without a PeftModel around the host, and saved in PEFT's own checkpoint format, so
that users of PEFT and vLLM load them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as LoraConfig
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .errors import CannotMerge, CheckpointMismatch, MissingDependency, SwiftTunersError, UnsupportedConfig
from .host_weights import PlacedParameters, SwappedParameter, find_shared, record_untied, untie
from .peft_attention import keep_attention_weights
from .peft_checkpoint import KEY_PREFIX, name_of, write_peft_config
from .peft_checkpoint import PEFT_WEIGHTS_FILE as PEFT_WEIGHTS_FILE
from .peft_checkpoint import read_peft_config as read_peft_config
from .peft_checks import (
    check_called,
    check_method,
    check_name,
    check_own_weights,
    check_parameters,
    check_tokens,
    warn_of_missed_experts,
)
from .peft_fused import call_adapted_layers
from .peft_inject import Injection
from .peft_layers import (
    Aliases,
    PeftLayer,
    active_in,
    adapters_in,
    check_active,
    find_layers,
    merging_part,
    mixes_rows,
    named_layers,
    remove_adapter,
    set_active,
    take_mode_of_host,
    tensors_in,
    trained_in,
    trains_bias,
    trains_in_full,
    trains_tokens,
)
from .peft_offloaded import check_at_hand, check_biases, check_offloaded
from .peft_rows import check_rows, choose_rows
from .peft_targets import rename_aliases, resolve_saved, resolve_targets
from .quantized_layers import check_wrapped
from .quantizer import check_merge_into
from .targets import host_modules, is_wrapper, unwrap
from .tuner import Phase, RowChoice, Tuner
from .weights import check_state, read_safetensors, write_safetensors

# Starts that leave the base weights alone; the others change them, and a removal could not restore them.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "mica")
_CHANGING_OPTIONS = ("loftq_config", "kasa_config")
# What PEFT raises on purpose where a config does not fit a model: values and targets (ValueError), kinds of layers
# (TypeError), combinations that it lacks (NotImplementedError). Anything else is a fault and is shown as it is.
_REFUSALS = (ValueError, TypeError, NotImplementedError)


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
        self._injection: Injection | None = None
        self._biases: list[SwappedParameter] = []
        self._placed = PlacedParameters(())

    @property
    def kind(self) -> str:
        """PEFT's type in lower case, such as 'lora'."""
        return str(getattr(self.config.peft_type, "value", self.config.peft_type)).lower()

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    @property
    def injection(self) -> Injection:
        """The adapter in PEFT's terms."""
        assert self._injection is not None, "the tuner is not attached"
        return self._injection

    def check_supported(self, model: nn.Module) -> None:
        """Raise UnsupportedConfig or TargetNotFound if the config cannot be attached; nothing has changed yet."""
        check_method(self.config)
        start = getattr(self.config, "init_lora_weights", True)
        changing = [option for option in _CHANGING_OPTIONS if getattr(self.config, option, None)]
        if start not in _PLAIN_STARTS:
            changing.insert(0, f"init_lora_weights={start!r}")
        if changing:
            raise UnsupportedConfig(
                f"{changing[0]} of {type(self.config).__name__} is not supported: it changes the host's own weights, "
                f"which no tuner of this kind puts back; leave it out, or use another start: {_PLAIN_STARTS}"
            )
        check_tokens(self.config, model)
        check_parameters(self.config, model)

    def attach(self, model: nn.Module) -> None:
        """Inject the adapter, active, in float32 whatever the host's type; other adapters stay as they were.

        Raises:
            UnsupportedConfig: PEFT cannot inject this config into this model.
            TargetNotFound: a target names no module.
            DuplicateName: the model has an adapter of this name.
            InvalidName: the name is one that the model or torch uses.
            MissingDependency: the method needs a package that is not installed.
        """
        self.check_supported(model)
        check_name(model, self.name)
        warn_of_missed_experts(self.config, model, self.name)
        self._resolve_targets(model)
        modules = {id(module) for module in model.modules()}
        self._placed = PlacedParameters(module for _, module in host_modules(model))
        states = [(layer, active_in(layer)) for _, _, layer in find_layers(model)]
        aliases = Aliases(model)
        try:
            self._inject(model)
            aliases.follow()
            self._model, self.active = model, True
            self._placed.keep(self._unstable_modules())
            self._biases = self._find_biases()
            for layer, active in states:
                set_active(layer, [*active, self.name])
            for _, _, layer in self._layers():
                take_mode_of_host(layer, modules)
            check_offloaded(self.config, model, self.name, kind=self.kind)
            check_called(model, self.name, required=not self.from_checkpoint)
            call_adapted_layers(model)
            layers = [cast("nn.Module", layer) for _, _, layer in self._layers()]
            keep_attention_weights(layers)
            check_wrapped(model, layers, method=self.kind)
        except BaseException as error:
            self._remove_from(model)
            self._model = self._injection = None
            for layer, active in states:
                set_active(layer, active)
            call_adapted_layers(model)
            if isinstance(error, ImportError):
                raise MissingDependency(f"{self.kind} tuner {self.name!r} needs another package: {error}") from error
            if isinstance(error, SwiftTunersError) or not isinstance(error, _REFUSALS):
                raise
            if self.from_checkpoint:
                raise CheckpointMismatch(
                    f"adapter {self.name!r} does not fit this model: {error}; {self._compare_bases(model)}"
                ) from error
            raise UnsupportedConfig(f"PEFT cannot attach {self.kind} tuner {self.name!r}: {error}") from error

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the adapter's trained parameters, and the host's biases that train with it."""
        own = {id(parameter) for _, _, layer in self._layers() for parameter in trained_in(layer, self.name)}
        own |= {id(bias.parameter) for bias in self._biases}
        return {name: parameter for name, parameter in self.model.named_parameters() if id(parameter) in own}

    def tensors(self) -> list[Tensor]:
        """Return all that the adapter holds, frozen projections too; of the host's biases the values that are off."""
        found = {id(each): each for _, _, layer in self._layers() for each in tensors_in(layer, self.name)}
        return [*found.values(), *(bias.stored for bias in self._biases)]

    def host_parameters(self) -> list[nn.Parameter]:
        """Return the host's biases that train with the adapter."""
        return [bias.parameter for bias in self._biases]

    def activate(self, active: bool) -> None:
        """Switch the adapter on or off.

        Raises:
            UnsupportedConfig: another active tuner trains the same module in full (`modules_to_save`), or by a method
                that allows one tuner at a time.
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
        call_adapted_layers(self.model)
        for bias in self._biases:
            bias.swap()
        self.active = active

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Let each layer run every row with those adapters only that the row names.

        Raises:
            UnsupportedConfig: the adapter trains biases of the host, or sits in a layer that does not see rows.
        """
        layers = named_layers(self.model, self.name)
        if choice is not None:
            if self.host_parameters():
                raise UnsupportedConfig(
                    f"tuner {self.name!r} changes weights of the host, which all rows share; "
                    "it cannot be chosen for single rows"
                )
            check_rows(self.name, layers)
        choose_rows([layer for _, layer in layers], choice)

    def detach(self) -> None:
        """Take the adapter off; where it was a layer's last one, the host's module stands in its place again."""
        self.activate(False)
        self._remove_from(self.model)
        self._model, self._injection, self._biases = None, None, []

    def check_merge(self) -> None:
        """Raise CannotMerge if the method cannot be folded into weights, or the adapter holds NaN."""
        broken = [name for name, parameter in self.parameters().items() if not torch.isfinite(parameter).all()]
        if broken:
            raise CannotMerge(f"tuner {self.name!r} holds values that are not finite, in {broken[0]!r}; train it again")
        check_at_hand(self.model, self.name)
        check_merge_into(unwrap(cast("nn.Module", layer)) for _, _, layer in self._layers())
        check_own_weights(self.model, self.name)
        for _, _, layer in self._layers():
            # The base class's own does nothing but raise, and so does Lily's: what it does depends on the input.
            if getattr(type(layer), "merge", None) is BaseTunerLayer.merge or mixes_rows(layer):
                raise CannotMerge(f"{self.kind} tuner {self.name!r} cannot be folded into weights; save it instead")
            if trains_bias(layer, self.name) and cast("Any", layer).bias is None:
                raise CannotMerge(
                    f"tuner {self.name!r} trains biases that the host does not have, so it cannot be folded into "
                    "weights; save it instead"
                )

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
        for parent, child, layer in self._layers():
            if getattr(parent, child) is not layer:
                continue
            if trains_in_full(layer):
                cast("Any", layer).original_module = cast("Any", layer).modules_to_save[self.name]
                continue
            if not self._keeps_tied(layer):
                untie(unwrap(cast("nn.Module", layer)), shared, getattr(layer, "parameter_name", "weight"))
            self._placed.note(unwrap(cast("nn.Module", layer)))
            part = merging_part(layer)
            part.merge(adapter_names=[self.name])
            # PEFT would leave the layer's other adapters out for as long as this one counts as merged.
            part.merged_adapters.remove(self.name)
        model, self._biases = self.model, []
        self.detach()
        record_untied(model)

    def state(self) -> dict[str, Tensor]:
        """Return the adapter's tensors under PEFT's keys, without PEFT's prefix for what is inside the host."""
        return {key.removeprefix(KEY_PREFIX): tensor for key, tensor in self._full_state().items()}

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the adapter. Raises CheckpointMismatch; then nothing is copied."""
        own = self._full_state()
        expected = {key.removeprefix(KEY_PREFIX): tensor for key, tensor in own.items()}
        check_state(state, expected, origin=origin, base=self._compare_bases(self.model))
        with self._tuned_biases():
            self.injection.load_state({key: state[key.removeprefix(KEY_PREFIX)] for key in own})

    def save(self, folder: Path) -> None:
        """Write PEFT's adapter_config.json and adapter_model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(self._full_state(), folder / PEFT_WEIGHTS_FILE)
        write_peft_config(self.config, self.model, folder)

    def load(self, folder: Path) -> None:
        """Read the weights of a PEFT checkpoint, ours or PEFT's own, into the attached adapter.

        Raises:
            InvalidCheckpoint: the file is missing, truncated or foreign.
            CheckpointMismatch: the checkpoint belongs to another base model.
        """
        tensors = read_safetensors(folder / PEFT_WEIGHTS_FILE)
        state = {key.removeprefix(KEY_PREFIX): tensor for key, tensor in tensors.items()}
        origin = f"adapter {str(folder)!r}"
        self.load_state(self._without_base_weights(state, origin), origin=origin)

    def _inject(self, model: nn.Module) -> None:
        """Put PEFT's layers into the host."""
        self._injection = Injection(self.config, model, self.name)

    def _without_base_weights(self, state: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
        """Leave out copies of the host's embeddings, which PEFT saves with an adapter on them."""
        own, host = self.state(), self.injection.host_state()
        state = rename_aliases(state, own, self.model, origin)
        copies = [key for key in state if key not in own and key in host]
        for key in copies:
            if not torch.equal(state[key].to(host[key].device), host[key]):
                raise CheckpointMismatch(
                    f"{origin} brings {key} of its base model along, which is another one here; "
                    f"{self._compare_bases(self.model)}"
                )
        return {key: tensor for key, tensor in state.items() if key not in copies}

    def _resolve_targets(self, model: nn.Module) -> None:
        """Refuse names in the config that match nothing, which PEFT would pass over; a checkpoint's weights tell."""
        resolve = resolve_saved if self.from_checkpoint else resolve_targets
        resolve(self.config, model)

    def _find_biases(self) -> list[SwappedParameter]:
        """Return the host's biases that the config's `bias` asks for: all, or those of the adapter's layers."""
        asked = getattr(self.config, "bias", "none")
        if asked == "none":
            return []
        layers = [unwrap(cast("nn.Module", layer)) for _, _, layer in self._layers()]
        modules = [module for _, module in host_modules(self.model)] if asked == "all" else layers
        modules = [module for module in modules if module._parameters.get("bias") is not None]
        check_biases(modules, self.name)
        found = {id(module.bias): cast("nn.Parameter", module.bias) for module in modules}
        return [SwappedParameter(bias) for bias in found.values()]

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

    def _full_state(self) -> dict[str, Tensor]:
        with self._tuned_biases():
            return self.injection.state()

    def _layers(self) -> list[tuple[nn.Module, str, PeftLayer]]:
        return [each for each in find_layers(self.model) if self.name in adapters_in(each[2])]

    def _unstable_modules(self) -> list[nn.Module]:
        """Return the host's modules whose parameters PEFT's layers exchange to compute with them."""
        found = []
        for _, _, layer in self._layers():
            base = unwrap(cast("nn.Module", layer))
            if isinstance(base, nn.MultiheadAttention):
                found += [base, unwrap(base.out_proj)]
            elif hasattr(layer, "parameter_name"):
                found.append(base)
        return found

    def _keeps_tied(self, layer: PeftLayer) -> bool:
        # Rows for tokens are the same in embedding and head where these are tied, so both merge into one weight.
        part = merging_part(layer)
        return trains_tokens(layer) or hasattr(part, "token_indices")

    def _remove_from(self, model: nn.Module) -> None:
        remove_adapter(model, self.name)
        self._placed.restore()
        self._placed = PlacedParameters(())
        configs = getattr(model, "peft_config", {})
        configs.pop(self.name, None)
        if not configs and "peft_config" in vars(model):
            del model.peft_config

    def _compare_bases(self, model: nn.Module) -> str:
        made_for, here = self.config.base_model_name_or_path, name_of(model) or type(model).__name__
        return f"it was made for {made_for!r}, this is {here!r}"
