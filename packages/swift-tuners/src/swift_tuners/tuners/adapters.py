"""Adapters: a small bottleneck after the attention and after the MLP of every block.

x becomes x + W_up act(W_down x), where x is what the attention or the MLP adds to the residual stream.

Source: Parameter-Efficient Transfer Learning for NLP, arXiv 1902.00751, section 2.1. The paper starts near the identity
with small weights; here W_up starts at zero, so that the start is the host exactly. Its norms train too; here they rest
(`modules_to_save` of LoRA beside it trains them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..hook_tuner import HookTuner
from ..laws import Laws

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(kw_only=True)
class AdapterConfig(TunerArgs):
    """Bottlenecks after attention and MLP, as Houlsby et al. placed them."""

    laws: ClassVar[Laws] = Laws(mergeable=False, models=("conv", "decoder", "vlm"))

    adapter_length: int = 128
    """Width of the bottleneck."""
    act_layer: Literal["gelu", "relu", "silu", "identity"] = "gelu"
    """Activation in the bottleneck."""
    target_modules: list[str] = field(default_factory=list)
    """Modules that get one behind them, by the ends of their names; by default attention and MLP of every block of the
    language model."""

    def build_config(self) -> AdapterConfig:
        """Return these options, which are the config."""
        return self

    def build_tuner(self, name: str) -> AdapterTuner:
        """Return the tuner, not yet attached."""
        return AdapterTuner(self, name=name)


class AdapterTuner(HookTuner[AdapterConfig]):
    """Bottlenecks, each behind one module."""

    kind = "adapters"

    def build_branches(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return a bottleneck for every target."""
        from ..module_map import map_modules
        from ..targets import find_targets, host_modules
        from ._features import bottleneck, find_features, find_operations

        if self.config.adapter_length < 1:
            raise UnsupportedConfig(f"adapter_length is {self.config.adapter_length!r}; expected at least 1")
        modules, parts = dict(host_modules(model)), map_modules(model)
        if self.config.target_modules:
            targets = find_targets(model, self.config.target_modules)
        else:
            targets = find_operations(modules, parts, bare=True)
        if not targets:
            raise UnsupportedConfig(
                f"{type(model).__name__} has no blocks whose attention and MLP are found by looking; name the modules "
                "that get an adapter in target_modules"
            )
        return {
            path: bottleneck(
                find_features(modules, parts, path),
                self.config.adapter_length,
                activation=self.config.act_layer,
                starts_at_zero=True,
            )
            for path in targets
        }

    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return x + W_up act(W_down x)."""
        from ._features import run_bottleneck

        return output + run_bottleneck(branch, output)
