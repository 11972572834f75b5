"""SCEdit: edits of the skip connections of a UNet; also of the residual stream of a model of blocks.

SC-Tuner:  x becomes x + T(x), with T(x) = W_up act(W_down x), for what the encoder hands to the decoder.
CSC-Tuner: x becomes x + s (T(x + c) + c), with c a picture such as a depth map, encoded; s is its scale.

Source: SCEdit, arXiv 2312.11392, section 3.2. W_up and the last layer of the encoding start at zero, so that the start
is the host. The picture is encoded once by three convolutions, then averaged to the size of each skip and projected by
a convolution of its own; several pictures are several tuners.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..hook_tuner import Arguments, HookTuner, Point
from ..laws import Laws

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._features import Features

_SKIPS = "res_hidden_states_tuple"
"""What diffusers' up blocks call the skip connections that they get; the last one is used first."""


@dataclass(kw_only=True)
class SCEditConfig(TunerArgs):
    """Small edits of skip connections, on request led by a picture."""

    laws: ClassVar[Laws] = Laws(mergeable=False, models=("conv", "decoder", "vlm"))

    target_modules: list[str] = field(default_factory=list)
    """Modules that are edited, by the ends of their names: of up blocks the skip connections that they get, of other
    modules what they return. By default the up blocks of a UNet, or else the blocks of the model."""
    down_ratio: float = 1.0
    """Width of the bottleneck as a share of the features."""
    act_layer: Literal["gelu", "relu", "silu", "identity"] = "gelu"
    """Activation in the bottleneck."""
    condition_channels: int = 0
    """Channels of the picture that leads the edits (CSC-Tuner), such as 3; 0 for none (SC-Tuner)."""
    condition_scale: float = 1.0
    """How much the picture counts."""
    hint_width: int = 32
    """Channels in the encoder of the picture."""

    def build_config(self) -> SCEditConfig:
        """Return these options, which are the config."""
        return self

    def build_tuner(self, name: str) -> SCEditTuner:
        """Return the tuner, not yet attached."""
        return SCEditTuner(self, name=name)


class SCEditTuner(HookTuner[SCEditConfig]):
    """Bottlenecks on skip connections.

    Attributes:
        condition: what `set_condition` was given.
    """

    kind = "scedit"
    condition: Tensor | None = None
    _hints: Tensor | None = None

    def set_condition(self, condition: Tensor | None) -> None:
        """Set the picture that leads the edits of the calls to come; None ends it, and then nothing is edited.

        Args:
            condition: float (B, condition_channels, H, W), or fewer rows, which are repeated to fill the batch.

        Raises:
            UnsupportedConfig: the tuner takes no picture, or one of other channels.
        """
        wanted = self.config.condition_channels
        if condition is not None and (not wanted or condition.dim() != 4 or condition.shape[1] != wanted):
            raise UnsupportedConfig(
                f"the condition is {tuple(condition.shape)}, but {self.kind} tuner {self.name!r} takes "
                + (f"(batch, {wanted}, height, width)" if wanted else "none: set condition_channels")
            )
        self.condition = condition

    def attach(self, model: nn.Module) -> None:
        """Build the edits and hook them in."""
        self._up_blocks: set[str] = set()
        super().attach(model)
        if self.config.condition_channels:
            self._handles.append(model.register_forward_pre_hook(self._forget_hints))
            self._handles.append(model.register_forward_hook(self._forget_hints))

    def build_branches(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return an edit for each skip connection, and the encoder of the picture."""
        from torch import nn

        from ..module_map import map_modules
        from ..targets import find_targets, host_modules
        from ._features import find_features

        if self.config.down_ratio <= 0 or self.config.condition_channels < 0:
            raise UnsupportedConfig(
                f"down_ratio is {self.config.down_ratio!r} and condition_channels {self.config.condition_channels!r}; "
                "expected more than 0, and at least 0"
            )
        modules, parts = dict(host_modules(model)), map_modules(model)
        skips = find_skips(modules)
        targets = find_targets(model, self.config.target_modules) if self.config.target_modules else None
        if targets is None:
            targets = list(skips or parts.layers)
        if not targets:
            raise UnsupportedConfig(
                f"{type(model).__name__} has neither the up blocks of a UNet nor a list of blocks that are found by "
                "looking; name the modules that are edited in target_modules"
            )
        branches: dict[str, nn.Module] = {}
        for path in targets:
            if path in skips:
                self._up_blocks.add(path)
                branches[path] = nn.ModuleList([self._new_edit(features, path) for features in skips[path]])
            else:
                branches[path] = self._new_edit(find_features(modules, parts, path), path)
        if self.config.condition_channels:
            branches[""] = _new_encoder(self.config.condition_channels, self.config.hint_width)
        return branches

    def point(self, path: str) -> Point:
        """Return what is edited: what an up block gets, or what another module returns."""
        if path in self._up_blocks:
            return "input"
        return "output" if path else "nowhere"

    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the edited output."""
        return self._edit(branch, output)

    def transform_inputs(self, branch: nn.Module, arguments: Arguments) -> Arguments:
        """Return the arguments of an up block with its skip connections edited."""
        inputs, keywords = arguments
        # Of all up blocks it is the second argument.
        skips: Sequence[Tensor] = keywords[_SKIPS] if _SKIPS in keywords else inputs[1]
        edits = list(branch.children())
        kept, own = skips[: -len(edits)], skips[-len(edits) :]
        edited = [
            self.for_chosen_rows(self._edit(edit, skip), skip) for edit, skip in zip(reversed(edits), own, strict=True)
        ]
        changed = (*kept, *edited)
        if _SKIPS in keywords:
            return inputs, {**keywords, _SKIPS: changed}
        return (inputs[0], changed, *inputs[2:]), keywords

    def detach(self) -> None:
        """Take edits and hooks off."""
        super().detach()
        self._hints = None

    def _new_edit(self, features: Features, path: str) -> nn.Module:
        from torch import nn

        from ._features import bottleneck, project

        hidden = max(1, int(features.width * self.config.down_ratio))
        edit = nn.ModuleDict(
            {"tuner": bottleneck(features, hidden, activation=self.config.act_layer, starts_at_zero=True)}
        )
        if self.config.condition_channels:
            if features.spatial != 2:
                raise UnsupportedConfig(
                    f"module {path!r} returns {features}, which a picture cannot be added to; choose targets that "
                    "return maps (batch, channels, height, width), or condition_channels=0"
                )
            hint = project(self.config.hint_width, features.width, features)
            for parameter in hint.parameters():
                nn.init.zeros_(parameter)
            edit["hint"] = hint
        return edit

    def _edit(self, branch: nn.Module, hidden: Tensor) -> Tensor:
        from torch import nn
        from torch.nn.functional import adaptive_avg_pool2d

        from ._features import run_bottleneck

        assert isinstance(branch, nn.ModuleDict)
        tuner = branch["tuner"]
        if "hint" not in branch:
            return hidden + run_bottleneck(tuner, hidden)
        if self.condition is None:
            return hidden
        size = (hidden.shape[-2], hidden.shape[-1])
        hint = branch["hint"](adaptive_avg_pool2d(self._encode(len(hidden)), size))
        led: Tensor = hidden + self.config.condition_scale * (run_bottleneck(tuner, hidden + hint) + hint)
        return led

    def _encode(self, num_rows: int) -> Tensor:
        """Return the encoded picture for each row of the batch; it is made once a call."""
        assert self.condition is not None
        if num_rows % len(self.condition):
            raise UnsupportedConfig(
                f"the condition has {len(self.condition)} rows, the batch {num_rows}; expected as many, or a divisor"
            )
        if self._hints is None:
            encoder = self.branch("")
            weight = next(encoder.parameters())
            self._hints = encoder(self.condition.to(weight.device, weight.dtype))
        # As classifier-free guidance doubles a batch: the rows, and the rows again.
        return self._hints.repeat(num_rows // len(self._hints), 1, 1, 1)

    def _forget_hints(self, *call: object) -> None:
        self._hints = None


def find_skips(modules: Mapping[str, nn.Module]) -> dict[str, list[Features]]:
    """Return, for each up block of a diffusers UNet, the features of its skip connections in the order of their use."""
    from torch import nn

    from ._features import Features

    def resnets(module: nn.Module | None) -> list[nn.Module]:
        found = getattr(module, "resnets", None)
        return list(found) if isinstance(found, nn.ModuleList) else []

    skips: dict[str, list[Features]] = {}
    for path, module in modules.items():
        if not resnets(module) or _SKIPS not in inspect.signature(module.forward).parameters:
            continue
        prefix = path.rpartition("up_blocks.")[0]
        if not skips:
            # What comes from below, before the first up block: the middle's output, or else the last down block's.
            down = [
                each for name, each in modules.items() if name.startswith(f"{prefix}down_blocks.") and resnets(each)
            ]
            below = resnets(modules.get(f"{prefix}mid_block")) or (resnets(down[-1]) if down else [])
            width = _count_channels(below[-1], "out_channels") if below else 0
        widths = []
        for resnet in resnets(module):
            widths.append(_count_channels(resnet, "in_channels") - width)
            width = _count_channels(resnet, "out_channels")
        skips[path] = [Features(width=each, spatial=2) for each in widths]
    return skips


def _count_channels(resnet: nn.Module, side: str) -> int:
    count = getattr(resnet, side, None)
    if not isinstance(count, int):
        raise UnsupportedConfig(
            f"{type(resnet).__name__} does not say its {side}; name modules other than up blocks in target_modules"
        )
    return count


def _new_encoder(channels: int, width: int) -> nn.Module:
    import torch
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, dtype=torch.float32),
        nn.SiLU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1, stride=2, dtype=torch.float32),
        nn.SiLU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1, dtype=torch.float32),
        nn.SiLU(),
    )
