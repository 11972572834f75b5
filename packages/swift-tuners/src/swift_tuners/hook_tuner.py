"""Tuners that put trained modules beside modules of the host, by hooks: the host's own modules stay where they are.

A method says where its branches stand and what each does with what goes into or comes out of its host module;
everything else, from switching to saving and choosing rows, is here. This module imports no torch, since the files of
tuners are read for help texts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from .errors import InvalidName, UnsupportedConfig
from .offloaded_weights import computing_device
from .tuner import Phase, RowChoice, Tuner

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

ConfigT = TypeVar("ConfigT")
_MARK = "is_swift_branch"
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a module's forward."""
Point: TypeAlias = Literal["output", "input", "nowhere"]
"""Where a branch acts: on what its host module returns, on what it gets, or where the method itself calls it."""


class HookTuner(Tuner[ConfigT]):
    """A tuner made of branches: small trained modules, each beside one module of the host.

    A branch becomes a child of its host module, named `swift_NAME`, so that it moves and is sharded with it. Where a
    wrapper such as LoRA's stands in the host module's place, the branch is inside, at the host's own module. Of a
    container that calls its children in turn (nn.Sequential) the last child carries the branch, whose output is the
    same, or the first, whose input is.
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
            model: the host, without the branches of other tuners; `targets.host_modules` looks through wrappers.

        Raises:
            UnsupportedConfig: the model lacks what the method needs.
            TargetNotFound: a target names no module.
        """

    @abstractmethod
    def transform(self, branch: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the output with the branch's effect.

        Args:
            branch: the trained module.
            inputs: what the host module got, positional arguments first.
            output: its output; of a tuple, the first element. It may be of another type than the branch's weights:
                convert what goes in; what comes out is converted back.
        """

    def point(self, path: str) -> Point:
        """Return where the branch beside this module acts; by default on the output."""
        return "output"

    def transform_inputs(self, branch: nn.Module, arguments: Arguments) -> Arguments:
        """Return the arguments with the effect of a branch whose point is 'input'.

        Pass what is changed through `for_chosen_rows`, which keeps the other rows and the type.

        Args:
            branch: the trained module.
            arguments: positional and keyword arguments of the host module's forward.
        """
        raise NotImplementedError

    def attach(self, model: nn.Module) -> None:
        """Build the branches and hook them in."""
        from .targets import host_modules

        self._model, self.active = model, True
        replaced = _replaced_modules(model)
        try:
            with _without_branches(model):
                modules, branches = dict(host_modules(model)), self.build_branches(model)
            for path, branch in branches.items():
                point = self.point(path)
                place = _end_of_sequence(modules[path], first=point == "input")
                self._check_place(path, place, replaced=id(place) in replaced)
                branch.to(_device_of(place, model))
                branch.train(place.training)
                branch.__dict__[_MARK] = True
                place.add_module(self._child, branch)
                self._places[path] = place
                if point == "output":
                    self._handles.append(place.register_forward_hook(partial(self._hook, path), with_kwargs=True))
                elif point == "input":
                    self._handles.append(place.register_forward_pre_hook(self._pre_hook, with_kwargs=True))
            if not self._places:
                raise UnsupportedConfig(f"{self.kind} tuner {self.name!r} finds no place in {type(model).__name__}")
        except BaseException:
            self.detach()
            raise

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the branches' parameters, by their names in the host."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        own = [each for branch in self._branches().values() for each in branch.parameters()]
        # A block that another tuner added can have gone with the branch in it.
        return {names[id(each)]: each for each in own if id(each) in names}

    def state(self) -> dict[str, Tensor]:
        """Return the branches' tensors by host module and name in the branch."""
        return {
            f"{path}.{key}" if path else key: tensor
            for path, branch in self._branches().items()
            for key, tensor in branch.state_dict().items()
        }

    def activate(self, active: bool) -> None:
        """Let the hooks act, or pass on what comes."""
        self.active = active

    def choose_rows(self, choice: RowChoice | None) -> None:
        """Act only on the rows that name this tuner."""
        import torch

        self._rows = None if choice is None else torch.tensor([self.name in names for names in choice])

    def detach(self) -> None:
        """Take hooks and branches off."""
        for handle in self._handles:
            handle.remove()
        for place in self._places.values():
            del place._modules[self._child]
        self._places, self._handles, self._model = {}, [], None

    def branch(self, path: str) -> nn.Module:
        """Return the branch beside a module of the host."""
        return self._places[path].get_submodule(self._child)

    def for_chosen_rows(self, changed: Tensor, given: Tensor) -> Tensor:
        """Return `changed` in the type and layout of `given`, but `given` in the rows that did not choose this tuner.

        Raises:
            UnsupportedConfig: the first dimension is not the rows of the batch.
        """
        import torch

        changed = changed.to(given.dtype)
        if changed.stride() != given.stride():
            # Sums round by the order of memory: a tuner that adds zero shall change nothing at all.
            changed = torch.empty_like(given).copy_(changed)
        if self._rows is None:
            return changed
        if given.dim() == 0 or given.shape[0] != len(self._rows):
            raise UnsupportedConfig(
                f"tuners were chosen for {len(self._rows)} rows, but a module that {self.kind} tuner {self.name!r} "
                f"changes gets {tuple(given.shape)}, whose first dimension is something else"
            )
        chosen = self._rows.to(given.device).view(-1, *[1] * (given.dim() - 1))
        return torch.where(chosen, changed, given)

    @property
    def _child(self) -> str:
        return f"swift_{self.name}"

    def _branches(self) -> dict[str, nn.Module]:
        return {path: self.branch(path) for path in self._places}

    def _check_place(self, path: str, place: nn.Module, *, replaced: bool) -> None:
        if not hasattr(type(place), "forward") or type(place).__name__ in {"ModuleList", "ModuleDict", "ParameterList"}:
            raise UnsupportedConfig(
                f"module {path!r} is a {type(place).__name__}, which is never called; name the modules in it"
            )
        if replaced:
            raise UnsupportedConfig(
                f"module {path!r} rests while another tuner trains a copy of it (modules_to_save, or new tokens), "
                f"so {self.kind} tuner {self.name!r} would do nothing there; leave it to one of them"
            )
        if hasattr(place, self._child):
            raise InvalidName(
                f"the tuner's name {self.name!r} gives {self._child!r}, which module {path!r} has; choose another"
            )

    def _hook(
        self,
        path: str,
        module: nn.Module,
        inputs: tuple[Any, ...],
        keywords: dict[str, Any],
        output: Any,  # noqa: ANN401  # whatever the host's module returns
    ) -> Any:  # noqa: ANN401
        if not self.active:
            return output
        first = output[0] if isinstance(output, tuple) else output
        if not hasattr(first, "dtype"):
            raise UnsupportedConfig(
                f"module {path!r} returns a {type(first).__name__}; expected a tensor, or a tuple that begins with one"
            )
        changed = self.transform(module.get_submodule(self._child), (*inputs, *keywords.values()), first)
        changed = self.for_chosen_rows(changed, first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def _pre_hook(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Arguments:
        if not self.active:
            return inputs, keywords
        return self.transform_inputs(module.get_submodule(self._child), (inputs, keywords))


def _device_of(place: nn.Module, model: nn.Module) -> Any:  # noqa: ANN401  # torch's device, or what stands for one
    weight = next(place.parameters(), next(model.parameters(), None))
    if weight is not None and weight.is_meta:
        # Where accelerate fetches the weights for each call, they are on meta until then.
        device = computing_device([*place.modules(), *model.modules()])
        return weight.device if device is None else device
    return None if weight is None else weight.device


def _end_of_sequence(module: nn.Module, *, first: bool) -> nn.Module:
    from torch import nn

    from .targets import unwrap

    while isinstance(module, nn.Sequential) and len(module):
        module = unwrap(module[0 if first else -1])
    return module


@contextmanager
def _without_branches(model: nn.Module) -> Iterator[None]:
    """Hide what tuners have put beside the host's modules, so that who looks for layers finds the host's alone."""
    hidden = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if _MARK in vars(child)
    ]
    for module, name, _ in hidden:
        del module._modules[name]
    try:
        yield
    finally:
        # They stand behind all others, in this order.
        for module, name, child in hidden:
            module._modules[name] = child


def _replaced_modules(model: nn.Module) -> set[int]:
    """Return the identities of modules that are kept, but not called, while a tuner trains a copy of them."""
    from .targets import is_wrapper

    kept = [getattr(each, "original_module", None) for each in model.modules() if is_wrapper(each)]
    return {id(inner) for module in kept if module is not None for inner in module.modules()}
