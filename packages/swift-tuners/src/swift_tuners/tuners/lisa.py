"""LISA: full tuning of a few random layers at a time, which change every `step_interval` steps.

Embedding, head and final norm always train. Which layers train is a pure function of seed and step, so that processes
agree and a resumed run goes on alike. Gradients and optimizer state of the others are released.

Under DDP, wrap the model before its first training step and with `find_unused_parameters=True`: until its first forward
in training all layers require gradients, so that DDP takes note of them. DDP still keeps gradient buckets for all.
FSDP2 needs nothing. DeepSpeed's optimizers hold flat copies, whose state cannot be released: they are refused.

Source: LISA: Layerwise Importance Sampling for Memory-Efficient LLM Fine-Tuning, arXiv 2403.17919, algorithm 1.
Deviation: the final norm trains too, as in the authors' code.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..args import TunerArgs
from ..errors import UnsupportedConfig
from ..laws import Laws
from ..tuner import Phase
from ._host_training import HostTuner, Place, own_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle


@dataclass(kw_only=True)
class LISAConfig(TunerArgs):
    """Full tuning of a few random layers at a time."""

    # torch chooses other kernels for convolutions whose weights need gradients.
    laws: ClassVar[Laws] = Laws(several=False, start_tolerance=1e-6, models=("conv", "decoder", "vlm"))

    activated_layers: int = 2
    """How many layers train at a time."""
    step_interval: int = 20
    """After how many optimizer steps other layers are drawn."""
    seed: int = 42
    """Of the drawing."""
    restorable: bool = True
    """Keep a copy of the original weights in main memory, so that the tuner can be switched off and taken off."""

    def build_config(self) -> LISAConfig:
        """Return the options, which are the config."""
        return self

    def build_tuner(self, name: str) -> LISATuner:
        """Return the tuner, not yet attached."""
        return LISATuner(self, name=name)


class LISATuner(HostTuner[LISAConfig]):
    """Trains random layers of the host in place, and all that is not in its layers."""

    phase = Phase.SCHEDULE
    kind = "lisa"

    def __init__(self, config: LISAConfig, *, name: str) -> None:
        super().__init__(config, name=name)
        self.step = 0
        self._released: int | None = None
        self._layers: dict[str, int] = {}
        self._num_layers = 0
        self._started = False
        self._handle: RemovableHandle | None = None

    @property
    def restorable(self) -> bool:
        """As the config says."""
        return self.config.restorable

    @property
    def chosen_layers(self) -> list[int]:
        """The layers that train at present, counted from 0."""
        # A string seeds alike in every process and version of Python, a tuple does not.
        draw = random.Random(f"{self.config.seed}:{self.step // self.config.step_interval}")
        return sorted(draw.sample(range(self._num_layers), self.config.activated_layers))

    def choose(self, model: nn.Module) -> dict[str, Place]:
        """Return the language side's parameters."""
        from ..host_modules import is_under
        from ..module_map import find_layers, map_modules

        found, places = map_modules(model), own_parameters(model)
        list_name, _ = find_layers(model)
        language = {
            name: place for name, place in places.items() if found.part_of(name.rpartition(".")[0]) == "language"
        }
        # New blocks of other tuners are in the list, and none of the host's own.
        inside = {name: int(name[len(list_name) + 1 :].split(".")[0]) for name in language if is_under(name, list_name)}
        numbers = {index: number for number, index in enumerate(sorted(set(inside.values())))}
        self._layers = {name: numbers[index] for name, index in inside.items()}
        self._num_layers = len(numbers)
        if not 0 < self.config.activated_layers <= self._num_layers:
            raise UnsupportedConfig(
                f"activated_layers={self.config.activated_layers!r} of a model with {self._num_layers} layers; "
                f"expected 1 to {self._num_layers}"
            )
        if self.config.step_interval < 1:
            raise UnsupportedConfig(f"step_interval={self.config.step_interval!r}; expected at least 1")
        return language

    def attach(self, model: nn.Module) -> None:
        """Choose the weights, keep their values, and wait for the first forward."""
        super().attach(model)
        self._handle = model.register_forward_pre_hook(self._start)

    def trained_now(self) -> dict[str, nn.Parameter]:
        """Return what gets gradients until layers are drawn anew; before the first forward in training, all."""
        resting = {id(place.parameter) for place in self._resting()}
        return {name: each for name, each in self.parameters().items() if id(each) not in resting}

    def on_step(self, step: int, optimizer: Optimizer | None = None) -> None:
        """Draw layers when it is time, and release the gradients and the optimizer's state of those that rest now.

        Raises:
            UnsupportedConfig: the optimizer holds none of the weights themselves.
        """
        self.step, self._started = step, True
        drawing = step // self.config.step_interval
        if drawing == self._released:
            return
        self._released = drawing
        inner: Any = optimizer
        # accelerate wraps optimizers, and transformers' Trainer hands the wrapped one out.
        while hasattr(inner, "optimizer"):
            inner = inner.optimizer
        if inner is not None:
            self._check_optimizer(inner)
        for place in self._resting():
            place.parameter.grad = None
            if inner is not None:
                inner.state.pop(place.parameter, None)

    def training_state(self) -> dict[str, Tensor]:
        """Return the number of the last step."""
        import torch

        return {"step": torch.tensor(self.step)}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on after the step in which the checkpoint was saved."""
        self.step = int(state["step"])

    def detach(self) -> None:
        """Give the host its original values, and take the hook off."""
        super().detach()
        self._remove_hook()

    def merge(self) -> None:
        """Leave the trained values in the host."""
        super().merge()
        self._remove_hook()

    def _resting(self) -> list[Place]:
        if not self._started:
            return []
        chosen = set(self.chosen_layers)
        places = self.weights.places
        return [places[name] for name, layer in self._layers.items() if layer not in chosen]

    def _start(self, module: nn.Module, inputs: object) -> None:
        """Freeze what rests, at the first forward in training: DDP ignores for good what is frozen when it is made."""
        if self._started or not module.training or not self.active or not self.trainable:
            return
        self._started = True
        for place in self._resting():
            place.parameter.requires_grad_(False)

    def _check_optimizer(self, optimizer: Optimizer) -> None:
        own = {id(parameter) for parameter in self.host_parameters()}
        if not any(id(each) in own for group in optimizer.param_groups for each in group["params"]):
            raise UnsupportedConfig(
                f"lisa tuner {self.name!r} finds none of its weights in {type(optimizer).__name__}: it holds copies of "
                "them, whose state cannot be released; train with DDP or FSDP2, without DeepSpeed"
            )

    def _remove_hook(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
