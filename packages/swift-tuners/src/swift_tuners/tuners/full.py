"""Full and partial tuning: the host's own weights train, all or those that names, shares and sides of the model leave.

What trains is chosen in this order: the sides (language, vision, projector) that are not frozen; without the parameters
that `freeze_parameters`, its regex and its ratio name; and then again those that `trainable_parameters` names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..args import TunerArgs
from ..errors import TargetNotFound, UnsupportedConfig
from ..laws import Laws
from ..registry import nearest
from ._host_training import HostTuner, Place, own_parameters

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class FullConfig(TunerArgs):
    """Training of the model's own weights."""

    # torch chooses other kernels for convolutions whose weights need gradients.
    laws: ClassVar[Laws] = Laws(several=False, start_tolerance=1e-6)

    freeze_parameters: list[str] = field(default_factory=list)
    """Parameters or modules that do not train, by the beginnings of their names, such as model.layers.0."""
    freeze_parameters_regex: str | None = None
    """Parameters that do not train, by a regular expression that is searched in their names."""
    freeze_parameters_ratio: float = 0.0
    """Share of the model's numbers that do not train, counted from the input: 0.5 freezes the lower half."""
    trainable_parameters: list[str] = field(default_factory=list)
    """Parameters or modules that train in spite of all other options, by the beginnings of their names."""
    trainable_parameters_regex: str | None = None
    """Parameters that train in spite of all other options, by a regular expression that is searched in their names."""
    freeze_llm: bool = False
    """Leave the language model as it is."""
    freeze_vit: bool = True
    """Leave the towers for pictures, video and sound as they are."""
    freeze_aligner: bool = True
    """Leave what brings their output to the language model as it is."""
    restorable: bool = True
    """Keep a copy of the original weights in main memory, so that the tuner can be switched off and taken off."""

    def build_config(self) -> FullConfig:
        """Return the options, which are the config."""
        return self

    def build_tuner(self, name: str) -> FullTuner:
        """Return the tuner, not yet attached."""
        return FullTuner(self, name=name)


class FullTuner(HostTuner[FullConfig]):
    """Trains weights of the host in place."""

    kind = "full"

    @property
    def restorable(self) -> bool:
        """As the config says."""
        return self.config.restorable

    def choose(self, model: nn.Module) -> dict[str, Place]:
        """Return what trains.

        Raises:
            UnsupportedConfig: nothing is left, or an option has no effect on this model.
            TargetNotFound: a name or an expression matches no parameter.
        """
        config, places = self.config, own_parameters(model)
        if not 0 <= config.freeze_parameters_ratio <= 1:
            raise UnsupportedConfig(f"freeze_parameters_ratio={config.freeze_parameters_ratio!r}; expected 0 to 1")
        packed = _packed_weights(model)
        names = [*places, *packed]
        parts = _parts_of(model, names)
        flags = {"language": config.freeze_llm, "vision": config.freeze_vit, "projector": config.freeze_aligner}
        frozen = {name for name in names if flags[parts[name]]}
        frozen |= _match(names, config.freeze_parameters, config.freeze_parameters_regex, option="freeze_parameters")
        frozen |= _lowest(places, config.freeze_parameters_ratio)
        frozen -= _match(
            names, config.trainable_parameters, config.trainable_parameters_regex, option="trainable_parameters"
        )
        for name in packed:
            if name not in frozen:
                raise UnsupportedConfig(
                    f"full tuner {self.name!r} would train {name!r}, which is quantized; load the model unquantized, "
                    "freeze it, or use lora"
                )
        chosen = {name: place for name, place in places.items() if name not in frozen}
        if not chosen:
            raise UnsupportedConfig(
                f"full tuner {self.name!r} leaves nothing of {type(model).__name__} to train; freeze less, "
                "or name trainable_parameters"
            )
        return chosen


def _parts_of(model: nn.Module, places: Collection[str]) -> dict[str, str]:
    from ..module_map import map_modules

    found = map_modules(model)
    # What belongs to no side, such as a parameter of the whole, is taken with the language model.
    return {name: found.part_of(name.rpartition(".")[0]) or "language" for name in places}


def _match(names: Collection[str], beginnings: list[str], pattern: str | None, *, option: str) -> set[str]:
    from ..host_modules import is_under

    chosen: set[str] = set()
    for beginning in beginnings:
        matched = {name for name in names if beginning and is_under(name, beginning)}
        if not matched:
            known = {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}
            raise TargetNotFound(
                f"{option} {beginning!r} is the beginning of no parameter's name; {nearest(beginning, known)}"
            )
        chosen |= matched
    if pattern is not None:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise TargetNotFound(f"{option}_regex={pattern!r} is no regular expression: {error}") from error
        matched = {name for name in names if compiled.search(name)}
        if not matched:
            raise TargetNotFound(
                f"{option}_regex={pattern!r} is found in no parameter's name; look at the model's names"
            )
        chosen |= matched
    return chosen


def _lowest(places: dict[str, Place], ratio: float) -> set[str]:
    """Return the first parameters, as many as fit whole into this share of all numbers."""
    budget = ratio * sum(place.parameter.numel() for place in places.values())
    chosen: set[str] = set()
    for name, place in places.items():
        budget -= place.parameter.numel()
        if budget < 0:
            break
        chosen.add(name)
    return chosen


def _packed_weights(model: nn.Module) -> list[str]:
    """Return names for the weights that quantizers keep in buffers, which no list of parameters shows."""
    from ..host_modules import host_modules, is_linear

    return [
        f"{path}.weight"
        for path, module in host_modules(model)
        if is_linear(module) and all(name == "bias" for name, _ in module.named_parameters())
    ]
