"""Methods that train weights of the host in place: which are the host's own, and their original values kept aside.

Values are exchanged by copying into the parameters, which stay the same objects in the same memory: optimizers, DDP
and FSDP2 hold on to both.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import UnsupportedConfig
from ..offloaded_weights import is_offloaded
from ..tuner import Tuner

if TYPE_CHECKING:
    from torch import Tensor, nn

ConfigT = TypeVar("ConfigT")
BLOCK_OF_TUNER = "swift_block_of"
"""Attribute of a whole block that a tuner has added to the host: the tuner's name."""
CHILD_OF_TUNER = "swift_"
"""Start of the names of modules that hook tuners add to modules of the host."""


class Place(NamedTuple):
    """Where a parameter or buffer is. FSDP2 and ZeRO-3 exchange the object that is there."""

    module: nn.Module
    attribute: str

    @property
    def parameter(self) -> nn.Parameter:
        """What is there now."""
        found: nn.Parameter = self.module._parameters[self.attribute]  # type: ignore[assignment]  # never None: see below
        return found

    @property
    def tensor(self) -> Tensor:
        """What is there now, also where it is a buffer."""
        held = self.module._parameters if self.attribute in self.module._parameters else self.module._buffers
        found: Tensor = held[self.attribute]  # type: ignore[assignment]  # never None, as above
        return found


def own_parameters(model: nn.Module) -> dict[str, Place]:
    """Return the places of the host's own parameters by the names it was loaded with; of tied ones, the first.

    What tuners added is left out: adapters inside wrappers, branches of hook tuners, new blocks.
    """
    found: dict[str, Place] = {}
    seen: set[int] = set()
    for path, module in own_modules(model):
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{path}.{name}" if path else name] = Place(module, name)
    return found


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the host's own modules with the names it was loaded with, without what tuners added."""
    from ..host_modules import host_modules

    foreign: set[int] = set()
    for path, module in host_modules(model):
        if (
            id(module) in foreign
            or path.rpartition(".")[2].startswith(CHILD_OF_TUNER)
            or BLOCK_OF_TUNER in vars(module)
        ):
            foreign.update(id(each) for each in module.modules())
        else:
            yield path, module


def statistics_of(places: Mapping[str, Place]) -> dict[str, Place]:
    """Return the running statistics that change as the parameters in these places train: of norms that are all there.

    Args:
        places: parameters by name.
    """
    from ..running_statistics import STATISTICS, keeps_statistics

    there = {(id(place.module), place.attribute) for place in places.values()}
    found: dict[str, Place] = {}
    for name, place in places.items():
        module = place.module
        own = [attribute for attribute, parameter in module._parameters.items() if parameter is not None]
        if keeps_statistics(module) and all((id(module), attribute) in there for attribute in own):
            path = name.removesuffix(place.attribute)
            kept = [each for each in STATISTICS if module._buffers.get(each) is not None]
            found |= {f"{path}{each}": Place(module, each) for each in kept}
    return found


class HostWeights:
    """Parameters of the host that train, with the running statistics of norms, and their original values.

    Args:
        places: the parameters by name.
        owner: the tuner's name, for messages.
        restorable: keep the original values, in main memory. Without, nothing takes the trained ones away again.

    Raises:
        UnsupportedConfig: accelerate has offloaded one of them.

    Attributes:
        active: whether the trained values are in the host.
    """

    def __init__(self, places: Mapping[str, Place], *, owner: str, restorable: bool) -> None:
        lost = next((name for name, place in places.items() if is_offloaded(place.module)), None)
        if lost is not None:
            raise UnsupportedConfig(
                f"tuner {owner!r} would train {lost!r}, which device_map has offloaded; give it a device in "
                "device_map, or use a method that leaves the host's weights alone, such as lora"
            )
        self.places = dict(places)
        self._all = self.places | statistics_of(places)
        self.owner = owner
        self.active = True
        self._aside: dict[str, Tensor] | None = None
        self._versions = {name: place.tensor._version for name, place in self._all.items()}
        if restorable:
            self._aside = {name: _to_main_memory(place.tensor) for name, place in self._all.items()}

    def values(self) -> dict[str, Tensor]:
        """Return the trained values, wherever they are, sharing memory."""
        if self.active or self._aside is None:
            return {name: place.tensor.detach() for name, place in self._all.items()}
        return dict(self._aside)

    def switch(self, active: bool) -> None:
        """Put the trained or the original values into the host.

        Raises:
            UnsupportedConfig: the original ones were not kept.
        """
        if active == self.active:
            return
        if self._aside is None:
            raise UnsupportedConfig(
                f"tuner {self.owner!r} cannot be switched off or taken off: restorable=False kept no copy of the "
                "host's weights; save or merge it, or load the host anew (restorable=True keeps a copy in main memory)"
            )
        for name, place in self._all.items():
            present = place.tensor.detach()
            wanted, self._aside[name] = self._aside[name], _to_main_memory(present)
            present.copy_(_as_sharded_as(present, wanted))
        self.active = active

    def restore(self) -> None:
        """Give the host its original values for good. Raises UnsupportedConfig as `switch`."""
        changed = any(place.tensor._version != self._versions[name] for name, place in self._all.items())
        if self._aside is not None or changed:
            self.switch(False)
        self._aside = None

    def keep(self) -> None:
        """Leave the trained values in the host for good."""
        self.switch(True)
        self._aside = None


class HostTuner(Tuner[ConfigT]):
    """A tuner that trains weights of the host in place; its state is those weights and nothing else."""

    _model: nn.Module | None = None
    _weights: HostWeights | None = None

    @property
    def weights(self) -> HostWeights:
        """What trains."""
        assert self._weights is not None, "the tuner is not attached"
        return self._weights

    @property
    @abstractmethod
    def restorable(self) -> bool:
        """Whether the host's original values are kept."""

    @abstractmethod
    def choose(self, model: nn.Module) -> dict[str, Place]:
        """Return what trains, at least one parameter, out of `own_parameters`.

        Raises:
            UnsupportedConfig: the model lacks what the method needs.
            TargetNotFound: a name matches nothing.
        """

    def attach(self, model: nn.Module) -> None:
        """Choose the weights and keep their values."""
        from ..quantizer import quantizer_of

        places = self.choose(model)
        for name, place in places.items():
            # Some quantized types say of themselves that they are floats.
            packed = place.attribute == "weight" and quantizer_of(place.module) is not None
            if packed or not place.parameter.is_floating_point():
                kind = type(place.parameter.data).__name__ if packed else place.parameter.dtype
                raise UnsupportedConfig(
                    f"{self.kind} tuner {self.name!r} would train {name!r}, whose type is {kind}: "
                    "quantized weights cannot train; load the model unquantized, freeze them, or use lora"
                )
        self._model, self.active = model, True
        self._weights = HostWeights(places, owner=self.name, restorable=self.restorable)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what trains, by the names in the host as it is now, with the wrappers of other tuners."""
        return self._name_now(self.host_parameters())

    def host_parameters(self) -> list[nn.Parameter]:
        """Return what trains: all of it is the host's."""
        return [place.parameter for place in self.weights.places.values()]

    def state(self) -> dict[str, Tensor]:
        """Return the trained values by the names that the host was loaded with."""
        return self.weights.values()

    def tensors(self) -> list[Tensor]:
        """Return the trained values: while the tuner is off, not those in the host."""
        return list(self.weights.values().values())

    def activate(self, active: bool) -> None:
        """Put the trained or the host's original values in place. Raises UnsupportedConfig without restorable."""
        self.weights.switch(active)
        self.active = active

    def detach(self) -> None:
        """Give the host its original values. Raises UnsupportedConfig without restorable, once something changed."""
        self.weights.restore()
        self._model = self._weights = None

    def check_merge(self) -> None:
        """Nothing stands against keeping what is in the host already."""

    def merge(self) -> None:
        """Leave the trained values in the host."""
        self.weights.keep()
        self._model = self._weights = None

    def _name_now(self, parameters: list[nn.Parameter]) -> dict[str, nn.Parameter]:
        assert self._model is not None, "the tuner is not attached"
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        return {names[id(parameter)]: parameter for parameter in parameters}


def _to_main_memory(tensor: Tensor) -> Tensor:
    # 'meta' has no values to move.
    tensor = tensor.detach()
    return tensor.clone() if tensor.is_meta else tensor.to("cpu", copy=True)


def _as_sharded_as(present: Tensor, wanted: Tensor) -> Tensor:
    """Return a kept value as FSDP2 has split up the parameter since."""
    if not hasattr(present, "placements") or hasattr(wanted, "placements"):
        return wanted
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = present.device_mesh, present.placements  # type: ignore[attr-defined]  # a DTensor
    return distribute_tensor(wanted.to(present.device, present.dtype), mesh, placements)
