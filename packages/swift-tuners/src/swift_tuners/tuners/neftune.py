"""NEFTune: noise on the embeddings of tokens, in training only.

X becomes X + (alpha / sqrt(L d)) e with e uniform in [-1, 1], for a sample of L tokens of d features. Padding is not
counted and gets none.

Source: NEFTune: Noisy Embeddings Improve Instruction Finetuning, arXiv 2310.05914, algorithm 1. In packed rows L is the
length of each sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..laws import Laws
from ..tuner import AnyTuner, Phase, RowChoice, Tuner

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle


@dataclass(kw_only=True)
class NEFTuneConfig(TunerArgs):
    """Noise on embeddings in training; nothing is added to the model, and nothing is left to save."""

    laws: ClassVar[Laws] = Laws(
        has_parameters=False, acts_outside_training=False, several=False, models=("decoder", "vlm")
    )

    noise_alpha: float = 5.0
    """Size of the noise: alpha / sqrt(tokens x features)."""
    target_modules: str | None = None
    """The embedding of tokens, by the end of its name; by default found by looking."""

    def build_config(self) -> NEFTuneConfig:
        """Return these options, which are the config."""
        return self

    def build_tuner(self, name: str) -> NEFTuneTuner:
        """Return the tuner, not yet attached."""
        return NEFTuneTuner(self, name=name)


class NEFTuneTuner(Tuner[NEFTuneConfig]):
    """Adds noise behind the embedding while it is in training mode."""

    phase = Phase.HOOK
    kind = "neftune"

    def __init__(self, config: NEFTuneConfig, *, name: str) -> None:
        super().__init__(config, name=name)
        self._handles: list[RemovableHandle] = []
        self._rows: Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Hook into the embedding."""
        from functools import partial

        from ._tokens import CallArguments

        if not (math.isfinite(self.config.noise_alpha) and self.config.noise_alpha >= 0):
            raise UnsupportedConfig(
                f"noise_alpha is {self.config.noise_alpha!r}; expected a number from 0, such as 5, 10 or 15"
            )
        path = self._find_embedding(model)
        self._call = CallArguments()
        chain = _wrapped_chain(model, path)
        whole = [("", model)]
        parent = path.rpartition(".")[0]
        if parent:
            whole.append((parent, dict(model.named_modules(remove_duplicate=False))[parent]))
        self._num_chained = self._outermost = len(chain)
        self.active = True
        self._handles = self._call.watch(whole)
        for depth, module in enumerate(chain):
            self._handles.append(module.register_forward_pre_hook(partial(self._enter, depth)))
            self._handles.append(module.register_forward_hook(partial(self._hook, depth)))

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return none."""
        return {}

    def param_groups(self, learning_rate: float) -> list[Any]:
        """Return none."""
        return []

    def activate(self, active: bool) -> None:
        """Add noise in training, or never."""
        self.active = active

    def check_merge(self) -> None:
        """Do nothing: outside of training nothing is to be folded in."""

    def merge(self) -> None:
        """Take the hooks off, which is all there is."""
        self.detach()

    def conflict_with(self, other: AnyTuner) -> str | None:
        """Refuse a second one: two noises are one of another size."""
        return "noise upon noise is noise of another size" if other.kind == self.kind else None

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Add noise only to the rows that name this tuner."""
        import torch

        self._rows = None if choice is None else torch.tensor([self.name in names for names in choice])

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _find_embedding(self, model: nn.Module) -> str:
        from ..module_map import map_modules
        from ..targets import find_targets

        if self.config.target_modules is not None:
            found = find_targets(model, [self.config.target_modules])
            if len(found) != 1:
                raise UnsupportedConfig(
                    f"target_modules {self.config.target_modules!r} names {len(found)} modules ({found[0]!r}, ...); "
                    "expected one embedding of tokens: give more of its name"
                )
            return found[0]
        embedding = map_modules(model).embedding
        if embedding is None:
            raise UnsupportedConfig(
                f"{type(model).__name__} has no embedding of tokens that is found by looking; name the layer in "
                "target_modules"
            )
        return embedding

    # Where another tuner has put a wrapper around the embedding, either of them may be what is called: the noise comes
    # from the outermost one that is.
    def _enter(self, depth: int, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._outermost = min(self._outermost, depth)

    def _hook(self, depth: int, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if depth > self._outermost:
            return output
        self._outermost = self._num_chained
        if not (self.active and module.training):
            return output
        return self.add_noise(output)

    def add_noise(self, embeddings_BTD: Tensor) -> Tensor:
        """Return embeddings with noise, scaled for each sample by its number of tokens."""
        import torch

        from ._tokens import lay_out

        if embeddings_BTD.dim() != 3:
            raise UnsupportedConfig(
                f"the embedding returns {tuple(embeddings_BTD.shape)}; NEFTune expects (batch, tokens, features)"
            )
        layout = lay_out(self._call.values, embeddings_BTD)
        num_tokens_BT = layout.count(layout.valid_BT).clamp_min(1)
        size_BT = self.config.noise_alpha / (num_tokens_BT * embeddings_BTD.shape[-1]).sqrt() * layout.valid_BT
        if self._rows is not None:
            size_BT = size_BT * self._rows.to(size_BT.device)[:, None]
        noise_BTD = torch.empty_like(embeddings_BTD, dtype=torch.float32).uniform_(-1, 1) * size_BT[..., None]
        return embeddings_BTD + noise_BTD.to(embeddings_BTD.dtype)


def _wrapped_chain(model: nn.Module, path: str) -> list[nn.Module]:
    """Return the host's module of this name and the wrappers around it."""
    from ..targets import host_modules, is_wrapper, unwrap

    module = dict(host_modules(model))[path]
    wrappers = [each for each in model.modules() if is_wrapper(each) and unwrap(each) is module]
    return [*wrappers, module]
