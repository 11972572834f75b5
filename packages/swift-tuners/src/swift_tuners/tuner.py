"""What a tuner is: something that changes a host model in place, trains, is saved, and comes off again.

A config finds its tuner in one step: our configs have `build_tuner(name)`; PEFT's are carried by `PeftTuner`. This
module imports no torch, so that a tuner's file, options and all, can be read for a help text.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypedDict, TypeVar, Union

from .errors import CannotMerge, UnsupportedConfig
from .weights import check_state, read_safetensors, write_safetensors

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn

CONFIG_FILE = "tuner_config.json"
WEIGHTS_FILE = "tuner_model.safetensors"

JSON: TypeAlias = Union[bool, int, float, str, list["JSON"], dict[str, "JSON"], None]  # noqa: UP007  # a forward reference
ConfigT = TypeVar("ConfigT")


class Phase(IntEnum):
    """When a tuner is attached, whatever the user's order; tuners of one phase keep the user's order."""

    STRUCTURE = 0
    """Adds or removes modules, such as new layers."""
    WRAP = 1
    """Puts wrappers in the place of modules, such as LoRA."""
    HOOK = 2
    """Hooks into the forward pass and leaves the modules where they are."""
    SCHEDULE = 3
    """Decides from step to step what trains."""


class ParamGroup(TypedDict):
    """Parameters that share a learning rate, as an optimizer takes them."""

    params: list[nn.Parameter]
    lr: float


class BuildsTuner(Protocol):
    """A config of ours."""

    def build_tuner(self, name: str) -> AnyTuner:
        """Return the tuner that this config describes, not yet attached."""
        ...


TunerConfig: TypeAlias = Union[BuildsTuner, "PeftConfig"]
"""What `Swift.prepare_model` attaches: a config of ours, or any of PEFT's."""


class Tuner(ABC, Generic[ConfigT]):
    """One tuner of one model.

    A tuner says in `parameters` what it trains; which of them require gradients is up to the `SwiftModel` around the
    host, which freezes everything else.

    Args:
        config: what the tuner is built from; saved with it.
        name: the tuner's name in the model, and its folder in a checkpoint.
    """

    phase: ClassVar[Phase] = Phase.WRAP

    def __init__(self, config: ConfigT, *, name: str) -> None:
        self.config = config
        self.name = name
        self.active = True
        self.trainable = True

    @property
    @abstractmethod
    def kind(self) -> str:
        """The method's name, such as 'lora'; for a method of ours, the name of its file in `tuners/`."""

    @abstractmethod
    def attach(self, model: nn.Module) -> None:
        """Change the host in place; on an error it is left as it was.

        Raises:
            UnsupportedConfig: the model lacks what the method needs.
            TargetNotFound: a target names no module.
        """

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what this tuner trains, active or not, by their names in the host."""

    @abstractmethod
    def activate(self, active: bool) -> None:
        """Switch the tuner's effect on or off; off, the host answers bit for bit as without the tuner."""

    @abstractmethod
    def detach(self) -> None:
        """Take the tuner off: the host has the module objects and the weights again that it had before."""

    def check_merge(self) -> None:
        """Raise CannotMerge where `merge` would, without changing anything; by default, always."""
        raise CannotMerge(f"tuner {self.name!r} ({self.kind}) cannot be folded into weights; save it instead")

    def merge(self) -> None:
        """Fold the tuner into the host's weights, so that nothing of it remains. Raises CannotMerge."""
        self.check_merge()

    def on_step(self, step: int) -> None:
        """Take note that optimizer step number `step`, counted from 1, is done."""

    def param_groups(self, learning_rate: float) -> list[ParamGroup]:
        """Return the tuner's parameters with the learning rates that the method wants, given the run's."""
        return [{"params": list(self.parameters().values()), "lr": learning_rate}]

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds, sharing memory with the model."""
        return {name: parameter.detach() for name, parameter in self.parameters().items()}

    def load_state(self, state: Mapping[str, Tensor], *, origin: str = "the state") -> None:
        """Copy tensors such as `state` returns into the attached tuner.

        Args:
            state: the tensors.
            origin: what they come from, for messages.

        Raises:
            CheckpointMismatch: their names or shapes are not this tuner's; nothing is copied.
        """
        own = self.state()
        check_state(state, own, origin=origin, base=f"it was made for another model or config than tuner {self.name!r}")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def save(self, folder: Path) -> None:
        """Write config and weights into a folder, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(self.state(), folder / WEIGHTS_FILE)
        fields = {"kind": self.kind, **self.config_fields()}
        (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read the weights that `save` wrote into the attached tuner.

        Raises:
            InvalidCheckpoint: the file is missing, truncated or foreign.
            CheckpointMismatch: see `load_state`.
        """
        self.load_state(read_safetensors(folder / WEIGHTS_FILE), origin=str(folder))

    def config_fields(self) -> dict[str, JSON]:
        """Return the config as JSON: by default the fields of a dataclass."""
        if not dataclasses.is_dataclass(self.config) or isinstance(self.config, type):
            raise UnsupportedConfig(f"the config of tuner {self.name!r} is {self.config!r}; expected a dataclass")
        fields: dict[str, JSON] = dataclasses.asdict(self.config)
        return fields


AnyTuner: TypeAlias = Tuner[Any]
"""A tuner, whatever its config is."""
