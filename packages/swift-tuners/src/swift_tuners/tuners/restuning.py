"""Res-Tuning: tuners unbound from the backbone, beside its operations, or as a network of their own beside all of it.

Beside an operation:  OP(x) becomes OP(x) + T(x).
Bypass:               b_l = s_l H_l(x_l) + (1 - s_l) V_l(b_{l-1}),  b_0 = x_0,  s_l = sigmoid(g_l),  g_l = 0 at first,
                      where x_l is what layer l returns, without its gradient: nothing flows back into the backbone.
T, H and V are one of
    res_adapter:      W_up act(W_down x)
    res_prefix:       softmax(x K^T / sqrt(d)) V, with K and V trained
    res_prompt:       c * softmax(x P^T / sqrt(d)) P, with P and the scales c trained

Source: Res-Tuning, arXiv 2310.19859, sections 3.2 and 3.3. Deviations: queries are the features themselves, since the
backbone's query projections are not ours to look into; the bypass is added to the last features rather than put in
their place, and W_up, V and c of what reaches them start at zero, so that the start is the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..hook_tuner import Arguments, HookTuner, Point
from ..laws import Laws

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._features import Features


@dataclass(kw_only=True)
class ResTuningConfig(TunerArgs):
    """Tuners beside a frozen backbone; as a bypass, training needs no gradients in the backbone."""

    laws: ClassVar[Laws] = Laws(mergeable=False, models=("decoder", "vlm"))

    use_bypass: bool = True
    """A bypass beside all layers; otherwise a tuner beside each operation."""
    tuner_cfg: Literal["res_adapter", "res_prefix", "res_prompt"] = "res_adapter"
    """What a tuner computes."""
    adapter_length: int = 10
    """Width of an adapter, or number of trained prefix or prompt tokens."""
    stem_modules: list[str] = field(default_factory=list)
    """With a bypass: modules whose outputs it reads, in the order of their calls; by default the model's layers."""
    target_modules: list[str] = field(default_factory=list)
    """With a bypass: the one module whose input it is added to; by default the norm behind the layers. Otherwise: the
    operations that get a tuner; by default attention and MLP of every layer. By the ends of their names."""

    def build_config(self) -> ResTuningConfig:
        """Return these options, which are the config."""
        return self

    def build_tuner(self, name: str) -> ResTuningTuner:
        """Return the tuner, not yet attached."""
        return ResTuningTuner(self, name=name)


class ResTuningTuner(HookTuner[ResTuningConfig]):
    """A bypass that reads layers and joins behind them, or tuners beside operations."""

    kind = "restuning"

    def __init__(self, config: ResTuningConfig, *, name: str) -> None:
        super().__init__(config, name=name)
        self._stems: list[str] = []
        # x_0, x_1, ... of the call under way.
        self._read: list[Tensor] = []

    def attach(self, model: nn.Module) -> None:
        """Build the tuners and hook them in."""
        from ..targets import host_modules

        self._stems = []
        super().attach(model)
        modules = dict(host_modules(model))
        for index, path in enumerate(self._stems, start=1):
            if index == 1:
                self._handles.append(modules[path].register_forward_pre_hook(self._read_first, with_kwargs=True))
            self._handles.append(modules[path].register_forward_hook(partial(self._read_stem, index)))

    def build_branches(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the bypass, which stands where it joins; or a tuner for each operation."""
        from ..module_map import map_modules
        from ..targets import find_targets, host_modules
        from ._features import find_features, find_operations

        if self.config.adapter_length < 1:
            raise UnsupportedConfig(f"adapter_length is {self.config.adapter_length!r}; expected at least 1")
        modules, parts = dict(host_modules(model)), map_modules(model)
        if not self.config.use_bypass:
            if self.config.stem_modules:
                raise UnsupportedConfig("stem_modules are for a bypass only; leave them out, or set use_bypass")
            wanted = self.config.target_modules
            operations = find_targets(model, wanted) if wanted else find_operations(modules, parts, bare=False)
            if not operations:
                raise UnsupportedConfig(
                    f"{type(model).__name__} has no layers whose attention and MLP are found by looking; name the "
                    "operations that get a tuner in target_modules"
                )
            return {path: self._new_tuner(find_features(modules, parts, path), last=True) for path in operations}
        stems = find_targets(model, self.config.stem_modules) if self.config.stem_modules else list(parts.layers)
        if not stems:
            raise UnsupportedConfig(
                f"{type(model).__name__} holds no list of layers that is found by looking; name in stem_modules what "
                "the bypass reads, and in target_modules where it joins"
            )
        target = self._find_target(model, modules, stems)
        features = [find_features(modules, parts, path) for path in stems]
        if len(set(features)) > 1:
            raise UnsupportedConfig(
                f"the modules that the bypass reads return {sorted({str(each) for each in features})}; expected "
                "features of one form: choose other stem_modules"
            )
        self._stems = stems
        return {target: self._new_bypass(features)}

    def point(self, path: str) -> Point:
        """Return where it acts: a bypass on what its target gets, a tuner on what its operation returns."""
        return "input" if self.config.use_bypass else "output"

    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return OP(x) + T(x)."""
        changed: Tensor = output + run_tuner(branch, _first_tensor(inputs))
        return changed

    def transform_inputs(self, branch: nn.Module, arguments: Arguments) -> Arguments:
        """Return the arguments of the target with the bypass added to its first tensor."""
        inputs, keywords = arguments
        read, self._read = self._read, []
        if len(read) != len(self._stems) + 1:
            raise UnsupportedConfig(
                f"the bypass of {self.kind} tuner {self.name!r} joins after {max(len(read) - 1, 0)} of the "
                f"{len(self._stems)} modules that it reads; choose a target that is called once, after all of them"
            )
        given = _first_tensor((*inputs, *keywords.values()))
        bypass = run_bypass(branch, [each.to(given.device) for each in read])
        if bypass.shape != given.shape:
            raise UnsupportedConfig(
                f"the bypass carries {tuple(bypass.shape)}, but its target gets {tuple(given.shape)}; choose the "
                "module that gets what the last layer returns in target_modules"
            )
        changed = self.for_chosen_rows(given + bypass, given)
        exchanged = tuple(changed if each is given else each for each in inputs)
        return exchanged, {name: changed if each is given else each for name, each in keywords.items()}

    def detach(self) -> None:
        """Take tuners and hooks off."""
        super().detach()
        self._read = []

    def _find_target(self, model: nn.Module, modules: Mapping[str, nn.Module], stems: list[str]) -> str:
        """Return the module whose input is what the last stem returns: the norm that stands beside the layers."""
        from ..module_map import is_norm
        from ..targets import find_targets, unwrap

        if self.config.target_modules:
            found = find_targets(model, self.config.target_modules)
            if len(found) != 1:
                raise UnsupportedConfig(
                    f"target_modules {self.config.target_modules!r} name {len(found)} modules ({found[0]!r}, ...); a "
                    "bypass joins at one"
                )
            return found[0]
        layers = stems[-1].rpartition(".")[0]
        holder, _, name = layers.rpartition(".")
        beside = [child for child, module in modules[holder].named_children() if is_norm(unwrap(module))]
        order = [child for child, _ in modules[holder].named_children()]
        behind = [child for child in beside if name in order and order.index(child) > order.index(name)]
        if not beside:
            raise UnsupportedConfig(
                f"no norm stands beside {layers!r} of {type(model).__name__}; name the module that gets what the last "
                "layer returns in target_modules"
            )
        norm = behind[0] if behind else beside[-1]
        return f"{holder}.{norm}" if holder else norm

    def _new_bypass(self, features: list[Features]) -> nn.Module:
        import torch
        from torch import nn

        blocks = []
        for index, each in enumerate(features):
            last = index == len(features) - 1
            block = nn.ModuleDict(
                {"lateral": self._new_tuner(each, last=last), "vertical": self._new_tuner(each, last=last)}
            )
            block["gate"] = nn.ParameterDict({"weight": nn.Parameter(torch.zeros(1, dtype=torch.float32))})
            blocks.append(block)
        return nn.ModuleList(blocks)

    def _new_tuner(self, features: Features, *, last: bool) -> nn.Module:
        """Return a tuner; the last ones before the host return zero."""
        import torch
        from torch import nn

        from ._features import bottleneck

        if self.config.tuner_cfg == "res_adapter":
            return bottleneck(features, self.config.adapter_length, activation="gelu", starts_at_zero=last)
        if features.spatial:
            raise UnsupportedConfig(
                f"tuner_cfg is {self.config.tuner_cfg!r} for {features}; maps take res_adapter, choose that one"
            )
        num_tokens, width = self.config.adapter_length, features.width
        tokens = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_tokens, width, dtype=torch.float32)))
        if self.config.tuner_cfg == "res_prompt":
            scales = torch.zeros(width) if last else torch.ones(width)
            return nn.ParameterDict({"prompt": tokens, "scale": nn.Parameter(scales.float())})
        values = torch.zeros(num_tokens, width) if last else nn.init.xavier_uniform_(torch.empty(num_tokens, width))
        return nn.ParameterDict({"key_tokens": tokens, "value_tokens": nn.Parameter(values.float())})

    def _read_first(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._read = [_first_tensor((*inputs, *keywords.values())).detach()] if self.active else []

    def _read_stem(self, index: int, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        # Gradient checkpointing runs layers again, from the last to the first: then this is not the one awaited.
        if self.active and len(self._read) == index:
            self._read.append((output[0] if isinstance(output, tuple) else output).detach())


def run_bypass(branch: nn.Module, read: list[Tensor]) -> Tensor:
    """Return b_L, from x_0, ..., x_L."""
    bypass = read[0]
    for block, features in zip(branch.children(), read[1:], strict=True):
        lateral = run_tuner(block.get_submodule("lateral"), features)
        vertical = run_tuner(block.get_submodule("vertical"), bypass)
        share = block.get_parameter("gate.weight").sigmoid()
        bypass = share * lateral + (1 - share) * vertical
    return bypass


def run_tuner(branch: nn.Module, hidden: Tensor) -> Tensor:
    """Return T(x)."""
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention

    from ._features import run_bottleneck

    if not isinstance(branch, nn.ParameterDict):
        return run_bottleneck(branch, hidden)
    hidden = hidden.to(next(branch.parameters()).dtype)
    if "prompt" in branch:
        keys = values = branch["prompt"]
    else:
        keys, values = branch["key_tokens"], branch["value_tokens"]
    attended = scaled_dot_product_attention(hidden.flatten(0, -2), keys, values).view(hidden.shape)
    return branch["scale"] * attended if "scale" in branch else attended


def _first_tensor(arguments: tuple[Any, ...]) -> Tensor:
    from torch import Tensor

    for each in arguments:
        if isinstance(each, Tensor) and each.is_floating_point():
            return each
    raise UnsupportedConfig("a module gets no tensor of features; choose other stem_modules or target_modules")
