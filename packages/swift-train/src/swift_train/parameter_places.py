"""Where a model's parameters belong: in which layer, on which side, and what an optimizer may hence do with them.

Names are the host's own: what a tuner put beside a layer belongs to that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from swift_tuners import SwiftModel
from swift_tuners.host_modules import host_modules, is_linear, is_under, unwrap
from swift_tuners.module_map import ModuleMap, map_modules
from torch import nn

from .errors import InvalidTrainArgs


class OptimizerGroup(TypedDict):
    """Parameters that share a learning rate and a decay."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


Groups = Sequence[OptimizerGroup]
DividedGroup = dict[str, Any]
"""An OptimizerGroup with what a method adds: torch's own optimizers take and keep such dicts."""


@dataclass(frozen=True, kw_only=True)
class ParameterPlace:
    """Where one parameter is.

    Attributes:
        name: of its module in the host.
        module: of the host; for what a tuner added to a layer, that layer.
        is_own: whether it is the module's own parameter, not a tuner's.
        part: 'language', 'vision', 'projector', or None.
    """

    name: str
    module: nn.Module
    is_own: bool
    part: str | None


@dataclass(frozen=True)
class ParameterPlaces:
    """All parameters of a model, and the model's map.

    Attributes:
        of: the place of a parameter, by its id; of tied ones, the first.
        map: the model's parts.
        modules: of the host, by name.
    """

    of: Mapping[int, ParameterPlace]
    map: ModuleMap
    modules: Mapping[str, nn.Module]

    def is_hidden_matrix(self, parameter: nn.Parameter) -> bool:
        """Whether this is a matrix inside of the network, neither of the embedding nor of the head."""
        place = self.of.get(id(parameter))
        return parameter.ndim == 2 and (place is None or not self.is_edge(place))

    def is_edge(self, place: ParameterPlace) -> bool:
        """Whether this place is an embedding or the head."""
        return isinstance(place.module, nn.Embedding) or place.name in (self.map.embedding, self.map.head)

    def layer_of(self, parameter: nn.Parameter) -> int | None:
        """Return the number of the language model's layer that holds it."""
        place = self.of.get(id(parameter))
        if place is None:
            return None
        return next((number for number, root in enumerate(self.map.layers) if is_under(place.name, root)), None)


def locate_parameters(model: nn.Module) -> ParameterPlaces:
    """Find where each parameter of a model is, with or without tuners."""
    host = model.host if isinstance(model, SwiftModel) else model
    found = map_modules(host)
    places: dict[int, ParameterPlace] = {}
    for name, module, parameter, is_own in _walk("", host, set()):
        places.setdefault(
            id(parameter), ParameterPlace(name=name, module=module, is_own=is_own, part=found.part_of(name))
        )
    return ParameterPlaces(places, found, dict(host_modules(host)))


def divide_groups(groups: Groups, describe: Callable[[nn.Parameter], Mapping[str, object]]) -> list[DividedGroup]:
    """Split groups so that the parameters of each also share what `describe` says of them; frozen ones are left out.

    The order of groups stays, and within each the order in which descriptions come up.
    """
    divided: list[DividedGroup] = []
    for group in groups:
        parts: dict[tuple[tuple[str, object], ...], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            if parameter.requires_grad:
                parts.setdefault(tuple(sorted(describe(parameter).items())), []).append(parameter)
        divided += [{**group, "params": parameters, **dict(extra)} for extra, parameters in parts.items()]
    return divided


def split_by_part(
    model: nn.Module, groups: Groups, *, learning_rate: float, vit_lr: float | None, aligner_lr: float | None
) -> list[OptimizerGroup]:
    """Give the vision towers and the projectors learning rates of their own.

    What a group asks for beside the run's rate, such as LoRA+ for its matrices B, is kept as a ratio.

    Args:
        model: with its tuners.
        groups: with their learning rates.
        learning_rate: the run's.
        vit_lr: of the towers for pictures, video and sound; None leaves them.
        aligner_lr: of what brings their output to the language model; None leaves it.

    Raises:
        InvalidTrainArgs: a rate is given, and nothing of that part trains.
    """
    rates = {"vision": vit_lr, "projector": aligner_lr}
    if vit_lr is None and aligner_lr is None:
        return list(groups)
    places = locate_parameters(model)
    split: list[OptimizerGroup] = []
    trained: set[str] = set()
    for group in groups:
        parts: dict[str, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            place = places.of.get(id(parameter))
            parts.setdefault((place and place.part) or "language", []).append(parameter)
        trained |= {part for part, held in parts.items() if any(each.requires_grad for each in held)}
        for part, parameters in parts.items():
            rate = rates.get(part)
            chosen = group["lr"] if rate is None else rate * group["lr"] / learning_rate
            split.append({**group, "params": parameters, "lr": chosen})
    for option, part, rate in (("vit_lr", "vision", vit_lr), ("aligner_lr", "projector", aligner_lr)):
        if rate is not None and part not in trained:
            raise InvalidTrainArgs(
                f"{option} is {rate}, and no {part} parameter trains; leave it out, or let that side train "
                "(freeze_vit, freeze_aligner)"
            )
    return split


def find_matrices(
    places: ParameterPlaces, parameters: Collection[nn.Parameter], targets: Sequence[str], *, with_embedding: bool
) -> set[int]:
    """Return the ids of the weights of linear layers that names choose.

    Args:
        places: of the model's parameters.
        parameters: that train.
        targets: all-linear (without the head), or whole parts of modules' names.
        with_embedding: choose embedding and head too.

    Raises:
        InvalidTrainArgs: a name chooses nothing, or nothing is chosen at all.
    """
    candidates: dict[int, ParameterPlace] = {}
    for parameter in parameters:
        place = places.of.get(id(parameter))
        # What a tuner adds is of low rank already.
        if place is not None and place.is_own and parameter.ndim == 2 and parameter.requires_grad:
            candidates[id(parameter)] = place
    edges = {key for key, place in candidates.items() if places.is_edge(place)}
    chosen = set(edges) if with_embedding else set()
    for target in targets:
        matched = {
            key
            for key, place in candidates.items()
            if is_linear(place.module)
            and (key not in edges if target.replace("_", "-") == "all-linear" else f".{target}." in f".{place.name}.")
        }
        if not matched:
            raise InvalidTrainArgs(
                f"{target!r} chooses no weight of a linear layer that trains in full; expected all-linear or a part of "
                "a module's name, and a tuner that trains the model's own weights, such as --tuner full"
            )
        chosen |= matched
    if not chosen:
        raise InvalidTrainArgs("no layer is chosen; give all-linear, or parts of modules' names such as q_proj")
    return chosen


def _walk(name: str, module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module, nn.Parameter, bool]]:
    """Yield each parameter with the host's module that it belongs to, and whether it is that module's own."""
    inner = unwrap(module)
    if id(inner) in seen:
        return
    seen.add(id(inner))
    if inner is not module:
        inside = {id(parameter) for parameter in inner.parameters()}
        yield from ((name, inner, each, False) for each in module.parameters() if id(each) not in inside)
    yield from ((name, inner, each, True) for each in inner.parameters(recurse=False))
    for child_name, child in inner.named_children():
        yield from _walk(f"{name}.{child_name}" if name else child_name, child, seen)
