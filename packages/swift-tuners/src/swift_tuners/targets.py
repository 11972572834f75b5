"""Which modules a tuner changes: all linear layers but the head, names, or a regular expression.

Names are those of the host as it was loaded: wrappers that other tuners put around a module are looked through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

from torch import nn

from .bypassed import is_bypassed
from .errors import TargetNotFound, UnsupportedConfig
from .host_modules import alias_names, is_linear
from .host_modules import host_modules as host_modules
from .host_modules import is_wrapper as is_wrapper
from .host_modules import unwrap as unwrap
from .module_map import map_modules
from .registry import nearest

Part = Literal["language", "vision", "projector"]
PARTS: tuple[Part, ...] = get_args(Part)
LANGUAGE: tuple[Part, ...] = ("language",)
ALL_LINEAR = "all-linear"


def find_targets(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Return the full names of the modules that `targets` means, in the model's order.

    Args:
        model: the host.
        targets: 'all-linear' for every linear layer of the language side without the head; any other string is a
            regular expression over full names; a sequence holds full names or their ends, such as 'q_proj', and may
            hold 'all-linear'. Of a module that is registered under several names, each counts; the first is returned.

    Raises:
        TargetNotFound: an entry matches no module; the message shows the nearest names.
    """
    modules = dict(host_modules(model))
    names = {name: name for name in modules} | alias_names(model)
    chosen: set[str] = set()
    if isinstance(targets, str) and targets != ALL_LINEAR:
        chosen.update(_match_regex(modules, names, targets))
        return [name for name in modules if name in chosen]
    for target in [targets] if isinstance(targets, str) else targets:
        matched = (
            all_linear(model)
            if target == ALL_LINEAR
            else [first for name, first in names.items() if matches(name, [target])]
        )
        if not matched:
            raise TargetNotFound(_describe_missing(modules, target))
        chosen.update(matched)
    return [name for name in modules if name in chosen]


def matches(name: str, targets: str | Iterable[str]) -> bool:
    """Say whether a name is one that a regular expression, or one of several names or their ends, means."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def all_linear(model: nn.Module, parts: Collection[Part] = LANGUAGE) -> list[str]:
    """Return the names of every linear layer but the head in those parts of the model.

    A model without towers is all language, so nothing is left out there. Layers whose weight their parent reads
    instead of calling them are left out too: an adapter would do nothing; see `bypassed`.

    Args:
        model: the host.
        parts: which of 'language', 'vision' (towers for pictures and sound) and 'projector' (what brings their output
            to the language model). A vision-language model is trained on its language side unless more is asked for.

    Raises:
        UnsupportedConfig: there is no such part.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise UnsupportedConfig(f"a model has no part {unknown[0]!r}; its parts are {', '.join(PARTS)}")
    modules = dict(host_modules(model))
    found = map_modules(model)
    return [
        name
        for name, module in modules.items()
        if name
        and is_linear(module)
        and name != found.head
        and found.part_of(name) in parts
        and not is_bypassed(modules, name)
    ]


def find_expert_parameters(model: nn.Module) -> list[str]:
    """Return the full names of weights that hold several experts in one tensor of three dimensions.

    No linear layer holds them, so `all_linear` misses them; PEFT's LoRA takes their names as `target_parameters`.
    """
    found = map_modules(model)
    return [
        f"{name}.{parameter_name}" if name else parameter_name
        for name, module in host_modules(model)
        if found.part_of(name) == "language" and "expert" in f"{name} {type(module).__name__}".lower()
        for parameter_name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and parameter.is_floating_point()
    ]


def _match_regex(modules: dict[str, nn.Module], names: Mapping[str, str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TargetNotFound(f"{pattern!r} is no regular expression: {error}") from error
    matched = [first for name, first in names.items() if name and compiled.fullmatch(name)]
    if not matched:
        raise TargetNotFound(_describe_missing(modules, pattern))
    return matched


def _describe_missing(modules: dict[str, nn.Module], target: str) -> str:
    if target == ALL_LINEAR:
        kinds = sorted({type(module).__name__ for module in modules.values()})
        bypassed = [name for name, module in modules.items() if is_linear(module) and is_bypassed(modules, name)]
        if bypassed:
            parent = type(modules[bypassed[0].rpartition(".")[0]]).__name__
            return (
                f"target 'all-linear' finds no linear layer that an adapter would act on: {parent} reads the weight of "
                f"{bypassed[0]!r} instead of calling the layer; name other targets"
            )
        return f"target 'all-linear' finds no linear layer in the model, which is made of {', '.join(kinds)}"
    # The last parts of the names are what people write; layer numbers alone say nothing.
    ends = {name.rpartition(".")[2] for name in modules} | {name for name in modules if "." not in name}
    known = sorted(end for end in ends if end and not end.isdigit()) or sorted(name for name in modules if name)
    return f"target {target!r} matches no module of the model; {nearest(target.rpartition('.')[2], known)}"
