"""ReFT: low-rank edits of the hidden states between layers (LoReFT).

h becomes h + R^T (W h + b - R h), with R: r x d of orthonormal rows, W: r x d and b trained: the part of h in the
subspace of R is replaced by what W h + b says.

Source: ReFT: Representation Finetuning for Language Models, arXiv 2404.03592, equation 2; section 3.3 for positions.
R is the Q factor of a trained matrix. By default every token is edited, generated ones too; the paper edits the first
and last tokens of prompts, which is `positions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..hook_tuner import HookTuner
from ..laws import Laws

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._tokens import Layout

_POSITIONS = re.compile(r"(?:f(\d+))?(?:\+?l(\d+))?")
_SHARED, _FIRST, _LAST = "edit", "first", "last"


@dataclass(kw_only=True)
class ReFTConfig(TunerArgs):
    """Low-rank edits of hidden states."""

    laws: ClassVar[Laws] = Laws(starts_unchanged=False, mergeable=False, models=("decoder", "vlm"))

    rank: int = 4
    """Rank r of an edit."""
    layers: list[int] = field(default_factory=list)
    """Numbers of the layers whose output is edited, from 0; by default all."""
    layer_key: str | None = None
    """Name of the list of layers; by default found by looking."""
    positions: str = "all"
    """Which tokens: all; prompt, those before the first trained or generated one; or, of the prompt, the first and last
    ones: f7, l7, f7+l7."""
    share_weights: bool = True
    """One edit for first and last tokens; otherwise one for each."""

    def build_config(self) -> ReFTConfig:
        """Return these options, which are the config."""
        return self

    def build_tuner(self, name: str) -> ReFTTuner:
        """Return the tuner, not yet attached."""
        return ReFTTuner(self, name=name)


class ReFTTuner(HookTuner[ReFTConfig]):
    """Edits of what layers return."""

    kind = "reft"

    def __init__(self, config: ReFTConfig, *, name: str) -> None:
        from ._tokens import CallArguments

        super().__init__(config, name=name)
        self._call = CallArguments()
        self._labels: Tensor | None = None
        # Which tokens each edit changes, by its name, in the call under way, and in calls that may be recomputed.
        self._plan: dict[str, Tensor] | None = None
        self._kept_plans: list[dict[str, Tensor]] = []
        self._was_recomputed = False

    def on_batch(self, labels_BT: Tensor | None) -> None:
        """Say for the calls to come which tokens are trained (not -100), where the model's forward takes no labels.

        The prompt is what stands before the first of them; None ends it.
        """
        self._labels = labels_BT

    def attach(self, model: nn.Module) -> None:
        """Build the edits and hook them in."""
        self._numbers = _read_positions(self.config.positions)
        super().attach(model)
        if self._numbers is not None:
            modules = dict(model.named_modules(remove_duplicate=False))
            holder = self._layers_name(model).rpartition(".")[0]
            watched = [("", model), (holder, modules[holder])] if holder else [("", model)]
            self._handles.extend(self._call.watch(watched))

    def build_branches(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return an edit for each layer."""
        from torch import nn

        from ..module_map import map_modules
        from ..targets import host_modules
        from ._features import find_features

        modules, parts, layers = dict(host_modules(model)), map_modules(model), self._layers_name(model)
        num_layers = len(list(modules[layers].children()))
        unknown = [each for each in self.config.layers if not 0 <= each < num_layers]
        if unknown:
            raise UnsupportedConfig(
                f"layers has {unknown[0]!r}, but {layers!r} holds {num_layers}; expected 0 to {num_layers - 1}"
            )
        branches: dict[str, nn.Module] = {}
        for index in self.config.layers or range(num_layers):
            path = f"{layers}.{index}"
            features = find_features(modules, parts, path)
            if features.spatial or not 1 <= self.config.rank <= features.width:
                raise UnsupportedConfig(
                    f"rank is {self.config.rank!r} and layer {path!r} returns {features}; expected hidden states "
                    f"(batch, tokens, features) and a rank from 1 to their number of features"
                )
            names = (_FIRST, _LAST) if self._is_split else (_SHARED,)
            branches[path] = nn.ModuleDict({name: _new_edit(features.width, self.config.rank) for name in names})
        return branches

    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the hidden states, edited at the chosen positions."""
        import torch

        if self._numbers is None:
            return output + edit(branch.get_submodule(_SHARED), output)
        if self._call.open and self._call.has_past:
            # What follows a cache is the answer.
            return output
        changed = output
        for name, chosen_BT in self._find_plan(branch, output).items():
            edited = output + edit(branch.get_submodule(name), output)
            changed = torch.where(chosen_BT[..., None], edited.to(output.dtype), changed)
        return changed

    def detach(self) -> None:
        """Take edits and hooks off."""
        super().detach()
        self._plan, self._kept_plans, self._labels = None, [], None

    @property
    def _is_split(self) -> bool:
        return self._numbers is not None and all(self._numbers) and not self.config.share_weights

    def _layers_name(self, model: nn.Module) -> str:
        from ..module_map import find_layers
        from ..targets import find_targets

        if self.config.layer_key is None:
            return find_layers(model)[0]
        return find_targets(model, [self.config.layer_key])[0]

    def _find_plan(self, branch: nn.Module, hidden_BTD: Tensor) -> dict[str, Tensor]:
        """Return which tokens each edit changes."""
        if not self._call.open:
            # Gradient checkpointing runs layers again, when the call that they belong to is over.
            self._was_recomputed = True
            if len(self._kept_plans) != 1:
                raise UnsupportedConfig(
                    f"{self.kind} tuner {self.name!r} cannot tell which tokens a layer gets: it runs outside of the "
                    "model's own call, or is recomputed after several calls of different prompts; call backward after "
                    "each forward, or choose positions='all'"
                )
            return self._kept_plans[0]
        if "plan" not in self._call.values:
            if hidden_BTD.dim() != 3:
                raise UnsupportedConfig(
                    f"a layer returns {tuple(hidden_BTD.shape)}; expected (batch, tokens, features): choose "
                    "positions='all'"
                )
            self._call.values["plan"] = plan = self._make_plan(hidden_BTD, training=branch.training)
            if self._call.takes_gradients and branch.training:
                self._keep(plan)
        found: dict[str, Tensor] = self._call.values["plan"]
        return found

    def _keep(self, plan: dict[str, Tensor]) -> None:
        if self._was_recomputed:
            self._kept_plans, self._was_recomputed = [], False
        # Two are enough to know that they differ.
        if len(self._kept_plans) < 2 and not any(_are_equal(plan, other) for other in self._kept_plans):
            self._kept_plans = [*self._kept_plans, plan]

    def _make_plan(self, hidden_BTD: Tensor, *, training: bool) -> dict[str, Tensor]:
        from ._tokens import lay_out

        assert self._numbers is not None
        num_first, num_last = self._numbers
        layout = lay_out(self._call.values, hidden_BTD)
        labels = self._call.values.get("labels", self._labels)
        if labels is None and training and num_last != 0:
            raise UnsupportedConfig(
                f"positions {self.config.positions!r} need the end of each prompt, which in training only labels tell; "
                "pass labels to the model, call on_batch of the tuner, or choose positions such as 'all' or 'f7'"
            )
        in_prompt_BT = layout.valid_BT
        if labels is not None:
            if labels.shape != layout.valid_BT.shape:
                raise UnsupportedConfig(
                    f"labels are {tuple(labels.shape)}, hidden states {tuple(hidden_BTD.shape)}; expected a label for "
                    "each token"
                )
            trained_BT = labels.to(hidden_BTD.device) != -100
            in_prompt_BT = in_prompt_BT & (layout.count_before(trained_BT) == 0) & ~trained_BT
        if num_first is None or num_last is None:
            return {_SHARED: in_prompt_BT}
        first_BT, last_BT = _ends(layout, in_prompt_BT, num_first, num_last)
        if self._is_split:
            return {_FIRST: first_BT, _LAST: last_BT & ~first_BT}
        return {_SHARED: first_BT | last_BT}


def edit(branch: nn.Module, hidden: Tensor) -> Tensor:
    """Return R^T (W h + b - R h)."""
    from torch import nn
    from torch.nn.functional import linear

    rotate, source = branch.get_submodule("rotate"), branch.get_submodule("source")
    assert isinstance(rotate, nn.Linear) and isinstance(source, nn.Linear)
    rotation_RD = orthonormal_rows(rotate.weight)
    hidden = hidden.to(source.weight.dtype)
    return linear(source(hidden) - linear(hidden, rotation_RD), rotation_RD.T)


def orthonormal_rows(weight_RD: Tensor) -> Tensor:
    """Return the orthonormal rows that span those of a matrix, which orthonormal ones leave as they are.

    Of the QR factorisations this is the one whose triangle has a positive diagonal: it depends smoothly on the matrix.
    """
    import torch

    q_DR, triangle_RR = torch.linalg.qr(weight_RD.float().T)
    return (q_DR * triangle_RR.diagonal().sign()).T.to(weight_RD.dtype)


def _new_edit(width: int, rank: int) -> nn.Module:
    import torch
    from torch import nn

    rotate = nn.Linear(width, rank, bias=False, dtype=torch.float32)
    nn.init.orthogonal_(rotate.weight)
    return nn.ModuleDict({"rotate": rotate, "source": nn.Linear(width, rank, dtype=torch.float32)})


def _read_positions(positions: str) -> tuple[int | None, int | None] | None:
    """Return how many first and last tokens; (None, None) for the whole prompt, None for all tokens."""
    if positions == "all":
        return None
    if positions == "prompt":
        return None, None
    match = _POSITIONS.fullmatch(positions)
    first, last = (int(each or 0) for each in match.groups()) if match else (0, 0)
    if not first and not last:
        raise UnsupportedConfig(f"positions are {positions!r}; expected all, prompt, or such as f7, l7 or f7+l7")
    return first, last


def _ends(layout: Layout, in_prompt_BT: Tensor, num_first: int, num_last: int) -> tuple[Tensor, Tensor]:
    """Return which tokens are among the first and which among the last of their prompts."""
    before_BT = layout.count_before(in_prompt_BT)
    after_BT = layout.count(in_prompt_BT) - 1 - before_BT
    return in_prompt_BT & (before_BT < num_first), in_prompt_BT & (after_BT < num_last)


def _are_equal(plan: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    import torch

    return all(torch.equal(chosen, other[name]) for name, chosen in plan.items())
