"""What a tuner is: something that changes a host model in place, trains, is saved, and comes off again.

A config finds its tuner in one step: our configs have `build_tuner(name)`; PEFT's are carried by `PeftTuner`. This
module imports no torch, so that a tuner's file, options and all, can be read for a help text.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypedDict, TypeVar, Union

from .errors import CannotMerge, UnsupportedConfig
from .late_writing import write_weights
from .weights import check_state, read_safetensors

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn
    from torch.optim import Optimizer

CONFIG_FILE = "tuner_config.json"
WEIGHTS_FILE = "tuner_model.safetensors"
TRAINING_STATE_FILE = "training_state.safetensors"

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


Device: TypeAlias = Literal["cpu", "meta"]
"""Where a tuner that is off may keep its tensors: in main memory, or in a temporary file ('meta')."""
RowChoice: TypeAlias = Sequence[frozenset[str]]
"""For each row of a batch, the names of the tuners that act on it."""

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

    def plan_steps(self, num_steps: int) -> None:  # most have no schedule
        """Take note of how many optimizer steps the run will make, before the first.

        Raises:
            UnsupportedConfig: the method's schedule does not fit into so few.
        """

    def on_batch(self, labels_BT: Tensor | None) -> None:  # most look at no labels
        """Take note of the labels of the forward passes to come (-100 is not trained); None ends it."""

    def on_step(self, step: int, optimizer: Optimizer | None = None) -> None:
        """Take note that optimizer step number `step`, counted from 1, is done; its gradients are still there.

        Args:
            step: its number.
            optimizer: the one that made it, for tuners that release state of parameters which rest.
        """

    def trained_now(self) -> dict[str, nn.Parameter]:
        """Return those of `parameters` that get gradients at present: all, unless the tuner has a schedule."""
        return self.parameters()

    def host_parameters(self) -> list[nn.Parameter]:
        """Return the host's own parameters whose values this tuner changes; two tuners cannot share one."""
        return []

    def conflict_with(self, other: AnyTuner) -> str | None:
        """Return why this tuner cannot be on one model with the other, if it cannot."""
        return None

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the method adds to the loss of each step, as a scalar."""
        return None

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Act only on the rows that name this tuner, until None ends it.

        Raises:
            UnsupportedConfig: the method acts on a whole batch.
        """
        if choice is not None:
            raise UnsupportedConfig(
                f"tuner {self.name!r} ({self.kind}) acts on whole batches, not on single rows; "
                "give it to all rows by activating it"
            )

    def tensors(self) -> list[Tensor]:
        """Return what offloading moves: the parameters that are not the host's; add what else is held in memory."""
        kept = {id(each) for each in self.host_parameters()}
        return [each for each in self.parameters().values() if id(each) not in kept]

    def training_state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides the weights; by default nothing."""
        return {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `training_state` returned in an earlier run."""

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
            CheckpointMismatch: their names, shapes or kinds of numbers are not this tuner's; nothing is copied.
            InvalidCheckpoint: there are values that are not finite; nothing is copied.
        """
        own = self.state()
        check_state(state, own, origin=origin, base=f"it was made for another model or config than tuner {self.name!r}")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def save(self, folder: Path) -> None:
        """Write config and weights into a folder, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(self.state(), folder / WEIGHTS_FILE)
        fields = {"kind": self.kind, **self.config_fields()}
        (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        self.save_training_state(folder)

    def load(self, folder: Path) -> None:
        """Read the weights that `save` wrote into the attached tuner.

        Raises:
            InvalidCheckpoint: the file is missing, truncated or foreign.
            CheckpointMismatch: see `load_state`.
        """
        self.load_state(read_safetensors(folder / WEIGHTS_FILE), origin=str(folder))
        self.read_training_state(folder)

    def save_training_state(self, folder: Path) -> None:
        """Write `training_state` into a folder, if there is some."""
        state = self.training_state()
        if state:
            write_weights(state, folder / TRAINING_STATE_FILE)

    def read_training_state(self, folder: Path) -> None:
        """Take over the training state in a folder, if there is one."""
        if (folder / TRAINING_STATE_FILE).is_file():
            self.load_training_state(read_safetensors(folder / TRAINING_STATE_FILE))

    def config_fields(self) -> dict[str, JSON]:
        """Return the config as JSON: by default the fields of a dataclass."""
        if not dataclasses.is_dataclass(self.config) or isinstance(self.config, type):
            raise UnsupportedConfig(f"the config of tuner {self.name!r} is {self.config!r}; expected a dataclass")
        fields: dict[str, JSON] = dataclasses.asdict(self.config)
        return fields


AnyTuner: TypeAlias = Tuner[Any]
"""A tuner, whatever its config is."""
