"""Tuners that put trained modules beside modules of the host, by hooks: the host's own modules stay where they are.

A method says where its branches stand and what each does with a module's input and output; everything else, from
switching to saving and choosing rows, is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .errors import InvalidName, UnsupportedConfig
from .targets import host_modules, unwrap
from .tuner import Phase, RowChoice, Tuner

ConfigT = TypeVar("ConfigT")


class HookTuner(Tuner[ConfigT]):
    """A tuner made of branches: small trained modules, each beside one module of the host.

    A branch becomes a child of its host module, named `swift_NAME`, so that it moves and is sharded with it. Where a
    wrapper such as LoRA's stands in the host module's place, the branch is inside, at the host's own module. Of a
    container that calls its children in turn (nn.Sequential) the last child carries the branch: its output is the same.
    """

    phase = Phase.HOOK

    def __init__(self, config: ConfigT, *, name: str) -> None:
        super().__init__(config, name=name)
        self._places: dict[str, nn.Module] = {}
        self._handles: list[RemovableHandle] = []
        self._rows: Tensor | None = None
        self._model: nn.Module | None = None

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    @abstractmethod
    def build_branches(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """Return new branches by the names of the host's modules that they stand beside.

        Make them in float32, the type in which small weights train well. They are put on the device of the host
        module's parameters (the model's, where it has none) and into its mode.

        Args:
            model: the host; `targets.host_modules` gives its modules without the wrappers of other tuners.

        Raises:
            UnsupportedConfig: the model lacks what the method needs.
            TargetNotFound: a target names no module.
        """

    @abstractmethod
    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the output with the branch's effect.

        Args:
            branch: the trained module.
            inputs: the host module's positional inputs.
            output: its output; of a tuple, the first element. It may be of another type than the branch's weights:
                convert what goes in; what comes out is converted back.
        """

    def attach(self, model: nn.Module) -> None:
        """Build the branches and hook them in."""
        self._model, self.active = model, True
        child, modules = f"swift_{self.name}", dict(host_modules(model))
        try:
            for path, branch in self.build_branches(model).items():
                place = _last_of_sequence(modules[path])
                if hasattr(place, child):
                    raise InvalidName(
                        f"the tuner's name {self.name!r} gives {child!r}, which module {path!r} has; choose another"
                    )
                weight = next(place.parameters(), next(model.parameters(), None))
                branch.to(weight.device if weight is not None else None)
                branch.train(place.training)
                place.add_module(child, branch)
                self._places[path] = place
                self._handles.append(place.register_forward_hook(partial(self._hook, path)))
            if not self._places:
                raise UnsupportedConfig(f"{self.kind} tuner {self.name!r} finds no place in {type(model).__name__}")
        except BaseException:
            self.detach()
            raise

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the branches' parameters, by their names in the host."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {names[id(each)]: each for branch in self._branches().values() for each in branch.parameters()}

    def state(self) -> dict[str, Tensor]:
        """Return the branches' tensors by host module and name in the branch."""
        return {
            f"{path}.{key}": tensor
            for path, branch in self._branches().items()
            for key, tensor in branch.state_dict().items()
        }

    def activate(self, active: bool) -> None:
        """Let the hooks act, or pass on what comes."""
        self.active = active

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Act only on the rows that name this tuner."""
        self._rows = None if choice is None else torch.tensor([self.name in names for names in choice])

    def detach(self) -> None:
        """Take hooks and branches off."""
        for handle in self._handles:
            handle.remove()
        for place in self._places.values():
            del place._modules[f"swift_{self.name}"]
        self._places, self._handles, self._model = {}, [], None

    def _branches(self) -> dict[str, nn.Module]:
        return {path: place.get_submodule(f"swift_{self.name}") for path, place in self._places.items()}

    def _hook(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:  # noqa: ANN401  # the host's
        if not self.active:
            return output
        first = output[0] if isinstance(output, tuple) else output
        changed = self.transform(module.get_submodule(f"swift_{self.name}"), inputs, first).to(first.dtype)
        if self._rows is not None:
            if first.shape[0] != len(self._rows):
                raise UnsupportedConfig(
                    f"tuners were chosen for {len(self._rows)} rows, but module {path!r} gets {first.shape[0]}"
                )
            chosen = self._rows.to(first.device).view(-1, *[1] * (first.dim() - 1))
            changed = torch.where(chosen, changed, first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _last_of_sequence(module: nn.Module) -> nn.Module:
    while isinstance(module, nn.Sequential) and len(module):
        module = unwrap(module[-1])
    return module
