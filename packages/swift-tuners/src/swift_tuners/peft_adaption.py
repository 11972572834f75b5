"""LLaMA-Adapter, PEFT's adaption prompts: trained tokens that the upper attention layers look at besides the text.

PEFT puts a wrapper in the place of each attention module; here a hook adds the same to its output.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .errors import InvalidName, TargetNotFound, UnsupportedConfig
from .host_modules import host_modules
from .peft_checkpoint import KEY_PREFIX, PEFT_WEIGHTS_FILE, name_of, write_peft_config
from .peft_checks import check_numbers
from .tuner import Phase, RowChoice, Tuner
from .weights import check_state, read_safetensors, write_safetensors

# Those of PEFT's whose attention has a projection for each of queries, keys, values and output.
_MODEL_TYPES = ("llama", "mistral")
_ATTENTION = "self_attn"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


class AdaptionTuner(Tuner[PeftConfig]):
    """Prompts and gates beside the attention of the last layers.

    output + o_proj(gate * softmax(q k_p' / sqrt(d)) v_p), with k_p and v_p the layer's own projections of the prompt.

    Args:
        config: PEFT's AdaptionPromptConfig; it is copied, never changed.
        name: the tuner's name.
        from_checkpoint: the config was saved with an adapter; its weights will tell whether it fits.

    Source: LLaMA-Adapter, arXiv 2303.16199, section 3; like PEFT's, the gate does not go by heads.
    """

    phase = Phase.HOOK

    def __init__(self, config: PeftConfig, *, name: str, from_checkpoint: bool = False) -> None:
        super().__init__(copy.deepcopy(config), name=name)
        self.from_checkpoint = from_checkpoint
        self._model: nn.Module | None = None
        self._places: dict[str, nn.Module] = {}
        self._handles: list[RemovableHandle] = []
        self._rows: Tensor | None = None

    @property
    def kind(self) -> str:
        """PEFT's type in lower case: 'adaption_prompt'."""
        return str(getattr(self.config.peft_type, "value", self.config.peft_type)).lower()

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    def attach(self, model: nn.Module) -> None:
        """Put prompts and gates beside the attention modules, in float32, and hook them in.

        Raises:
            UnsupportedConfig: the model is none of those that PEFT knows the method for, or has too few layers.
            TargetNotFound: no module has the name in `target_modules`.
            InvalidName: an attention module has a part of the tuner's name.
        """
        places = _find_places(self.config, model)
        taken = [path for path, place in places.items() if hasattr(place, self._child)]
        if taken:
            raise InvalidName(f"the tuner's name {self.name!r} gives {self._child!r}, which {taken[0]!r} has")
        self._model, self.active, self._places = model, True, places
        for place in places.values():
            place.add_module(self._child, _new_prompt(self.config, place))
            self._handles.append(place.register_forward_hook(self._add, with_kwargs=True))

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return prompts and gates, by their names in the host."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {names[id(each)]: each for branch in self._branches().values() for each in branch.parameters()}

    def activate(self, active: bool) -> None:
        """Let the hooks act, or pass on what comes."""
        self.active = active

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Act only on the rows that name this tuner."""
        self._rows = None if choice is None else torch.tensor([self.name in names for names in choice])

    def detach(self) -> None:
        """Take hooks, prompts and gates off."""
        for handle in self._handles:
            handle.remove()
        for place in self._places.values():
            del place._modules[self._child]
        self._places, self._handles, self._model = {}, [], None

    def state(self) -> dict[str, Tensor]:
        """Return prompts and gates under PEFT's keys, without PEFT's prefix."""
        return {
            f"{path}.{key}": parameter.detach()
            for path, branch in self._branches().items()
            for key, parameter in branch.named_parameters()
        }

    def save(self, folder: Path) -> None:
        """Write PEFT's adapter_config.json and adapter_model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {KEY_PREFIX + key: tensor for key, tensor in self.state().items()}
        write_safetensors(tensors, folder / PEFT_WEIGHTS_FILE)
        write_peft_config(self.config, self.model, folder)

    def load(self, folder: Path) -> None:
        """Read a checkpoint of PEFT's or ours. Raises InvalidCheckpoint and CheckpointMismatch."""
        tensors = read_safetensors(folder / PEFT_WEIGHTS_FILE)
        state = {key.removeprefix(KEY_PREFIX): tensor for key, tensor in tensors.items()}
        self.load_state(state, origin=f"adapter {str(folder)!r}")

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the tuner. Raises CheckpointMismatch; then nothing is copied."""
        own = self.state()
        here = name_of(self.model) or type(self.model).__name__
        base = f"it was made for {self.config.base_model_name_or_path!r}, this is {here!r}"
        check_state(state, own, origin=origin, base=base)
        for name, tensor in own.items():
            tensor.copy_(state[name])

    @property
    def _child(self) -> str:
        return f"swift_{self.name}"

    def _branches(self) -> dict[str, nn.Module]:
        return {path: place.get_submodule(self._child) for path, place in self._places.items()}

    def _add(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ANN401  # the host's
        if not self.active:
            return output
        hidden: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        rotation = kwargs["position_embeddings"] if "position_embeddings" in kwargs else args[1]
        added = _attend(module, module.get_submodule(self._child), hidden, rotation)
        changed = output[0] + added
        if self._rows is not None:
            if len(self._rows) != len(hidden):
                raise UnsupportedConfig(f"tuners were chosen for {len(self._rows)} rows; {len(hidden)} were given")
            changed = torch.where(self._rows.to(hidden.device).view(-1, 1, 1), changed, output[0])
        return (changed, *output[1:])


def _attend(attention: nn.Module, branch: nn.Module, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return what the tokens take from the prompt, (rows, tokens, model)."""
    layer, own = cast("Any", attention), cast("Any", branch)
    size = layer.head_dim
    prompt = own.adaption_prompt.to(hidden.dtype)

    def to_heads(states: Tensor) -> Tensor:
        return states.view(*states.shape[:-1], -1, size).transpose(1, 2)

    queries = to_heads(layer.q_proj(hidden))
    cos, sin = (each.unsqueeze(1) for each in rotation)
    first, second = queries.chunk(2, dim=-1)
    queries = queries * cos + torch.cat([-second, first], dim=-1) * sin
    keys, values = to_heads(layer.k_proj(prompt)), to_heads(layer.v_proj(prompt))
    groups = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
    scores = queries @ keys.transpose(-1, -2).to(queries.dtype) / size**0.5
    weights = own.adaption_gate * scores.softmax(dim=-1, dtype=torch.float32)
    taken = (weights.to(hidden.dtype) @ values.to(hidden.dtype)).transpose(1, 2).flatten(2)
    added: Tensor = layer.o_proj(taken)
    return added.to(hidden.dtype)


def _find_places(config: PeftConfig, model: nn.Module) -> dict[str, nn.Module]:
    kind, options = type(config).__name__, cast("Any", config)
    check_numbers(config, kind)
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type not in _MODEL_TYPES:
        raise UnsupportedConfig(
            f"{kind} works on models of type {', '.join(_MODEL_TYPES)}; {type(model).__name__} is {model_type!r}; "
            "use another method, such as PrefixTuningConfig"
        )
    for name in ("adapter_len", "adapter_layers"):
        if not isinstance(getattr(options, name), int) or getattr(options, name) < 1:
            raise UnsupportedConfig(f"{name} of {kind} is {getattr(options, name)!r}; expected a number above 0")
    if options.target_modules is None:
        options.target_modules = _ATTENTION
    target = options.target_modules
    found = {path: module for path, module in host_modules(model) if path.endswith(f".{target}")}
    if not found:
        raise TargetNotFound(f"target_modules {target!r} of {kind} names no module of {type(model).__name__}")
    if len(found) < options.adapter_layers:
        raise UnsupportedConfig(f"adapter_layers of {kind} is {options.adapter_layers}; the model has {len(found)}")
    places = dict(list(found.items())[-options.adapter_layers :])
    for path, place in places.items():
        missing = [name for name in _PROJECTIONS if not hasattr(place, name)]
        if missing:
            raise UnsupportedConfig(f"{kind} needs {missing[0]} in {path!r}, a {type(place).__name__}; it has none")
        if getattr(cast("Any", place).o_proj, "bias", None) is not None:
            raise UnsupportedConfig(f"{kind} would add the bias of {path}.o_proj twice; choose another method")
    return places


def _new_prompt(config: PeftConfig, place: nn.Module) -> nn.Module:
    """Return a prompt of normal numbers and a gate that is shut, in PEFT's names."""
    options, device = cast("Any", config), next(place.parameters()).device
    prompt = torch.randn(1, options.adapter_len, cast("Any", place).config.hidden_size)
    parameters = {"adaption_prompt": nn.Parameter(prompt), "adaption_gate": nn.Parameter(torch.zeros(1))}
    return nn.ParameterDict(parameters).to(device).train(place.training)
