"""The names in a config of PEFT, checked against the model: PEFT passes over those that match nothing.

A module that is registered under several names has one name for PEFT, the first; here any of them will do.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointMismatch, TargetNotFound, UnsupportedConfig
from .host_modules import alias_names, host_modules
from .peft_checks import is_targeted
from .registry import nearest
from .targets import ALL_LINEAR, find_targets, matches

_NAMES = ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules")
_PATTERNS = ("rank_pattern", "alpha_pattern")


def resolve_targets(config: Any, model: nn.Module) -> None:  # noqa: ANN401  # any of PEFT's
    """Spell out 'all-linear' and further names of modules, and refuse names that match nothing.

    Args:
        config: changed in place.
        model: the host.

    Raises:
        TargetNotFound: a name, a pattern or the number of a layer matches nothing.
        UnsupportedConfig: a pattern is none.
    """
    aliases = alias_names(model)
    for option in _NAMES:
        given = getattr(config, option, None)
        if given:
            setattr(config, option, _resolve_names(model, option, given))
    parameters = getattr(config, "target_parameters", None)
    if parameters:
        known = [name for name, _ in host_modules(model)]
        parts = [each.rpartition(".") for each in parameters]
        named = [f"{_first_name(module, known, aliases)}{dot}{name}" for module, dot, name in parts]
        config.target_parameters = named
    tokens = getattr(config, "trainable_token_indices", None)
    if isinstance(tokens, dict):
        found = {name: _resolve_names(model, "trainable_token_indices", [name]) for name in tokens}
        config.trainable_token_indices = {each: tokens[name] for name in found for each in found[name]}
    patterns = {option: getattr(config, option) for option in _PATTERNS if getattr(config, option, None)}
    if patterns or getattr(config, "layers_to_transform", None) is not None:
        targets = _targeted(config, model)
        _check_layers(config, targets)
        for option, pattern in patterns.items():
            setattr(config, option, _resolve_pattern(option, pattern, _adapted(config, targets), aliases))


def resolve_saved(config: Any, model: nn.Module) -> None:  # noqa: ANN401  # any of PEFT's
    """Give a checkpoint's config first names where PEFT takes any: for copies of modules, and for new tokens."""
    known, aliases = [name for name, _ in host_modules(model)], alias_names(model)
    if aliases and getattr(config, "modules_to_save", None):
        config.modules_to_save = [_first_name(name, known, aliases) for name in config.modules_to_save]
    if aliases and isinstance(getattr(config, "trainable_token_indices", None), dict):
        tokens = config.trainable_token_indices
        config.trainable_token_indices = {_first_name(name, known, aliases): tokens[name] for name in tokens}


def rename_aliases(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], model: nn.Module, origin: str
) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by first names.

    Args:
        state: as PEFT saved them.
        own: those of the adapter.
        model: the host.
        origin: what they come from, for messages.

    Raises:
        CheckpointMismatch: PEFT trained two uses of a module apart.
    """
    aliases = alias_names(model)
    renamed = {key: tensor for key, tensor in state.items() if key in own or not aliases}
    for key, tensor in state.items():
        if key in renamed:
            continue
        end = next((len(alias) for alias in aliases if key.startswith(f"{alias}.")), None)
        name = key if end is None else aliases[key[:end]] + key[end:]
        if name in renamed and not torch.equal(renamed[name], tensor):
            raise CheckpointMismatch(
                f"{origin} holds other values for {key!r} than for {name!r}, which are one module here: PEFT trained "
                "its uses apart; load it into a model whose modules are not shared"
            )
        renamed[name] = tensor
    return renamed


def _resolve_names(model: nn.Module, option: str, given: Any) -> Any:  # noqa: ANN401  # a text, a list or a set
    """Return the names as they were given if PEFT understands them, else the full names that they mean."""
    if isinstance(given, str) and given.lower() == ALL_LINEAR:
        given = [ALL_LINEAR]
    if not isinstance(given, str | list | tuple | set | frozenset):
        raise UnsupportedConfig(f"{option} is {given!r:.80}; expected names of modules, or a regular expression")
    try:
        found = find_targets(model, given if isinstance(given, str) else sorted(given))
    except TargetNotFound as error:
        if option == "target_modules":
            raise
        raise TargetNotFound(f"{option}: {error}") from error
    if all(matches(name, given) for name in found):
        return given
    return type(given)(found) if isinstance(given, list) and option != "target_modules" else set(found)


def _first_name(name: str, known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """Return the first name of a module, or the end of a name, that is known under another one only."""
    if not name or any(matches(each, [name]) for each in known):
        return name
    return next((first for alias, first in aliases.items() if matches(alias, [name])), name)


def _targeted(config: Any, model: nn.Module) -> list[str]:  # noqa: ANN401  # any of PEFT's
    """Return the modules that the config means, whatever their layers; without targets PEFT knows them by itself."""
    names = [name for name, _ in host_modules(model) if name]
    if not getattr(config, "target_modules", None):
        return names
    asked = copy.copy(config)
    asked.layers_to_transform = None
    return [name for name in names if is_targeted(asked, name)]


def _check_layers(config: Any, targets: Sequence[str]) -> None:  # noqa: ANN401  # any of PEFT's
    """Raise TargetNotFound if layers_to_transform has a number that no target's name has."""
    given = getattr(config, "layers_to_transform", None)
    if given is None or isinstance(config.target_modules, str):
        return
    asked = copy.copy(config)
    asked.target_modules = asked.target_modules or set(targets)
    for index in given if isinstance(given, list | tuple) else [given]:
        asked.layers_to_transform = index
        if not any(is_targeted(asked, name) for name in targets):
            where = f" below {config.layers_pattern!r}" if getattr(config, "layers_pattern", None) else ""
            raise TargetNotFound(
                f"layers_to_transform has {index!r}, and no target lies in a layer of this number{where}; the targets "
                f"are {', '.join(map(repr, targets[:3]))}{', ...' if len(targets) > 3 else ''}"
            )


def _adapted(config: object, targets: Sequence[str]) -> list[str]:
    """Return what has a rank of its own: the targets, and modules and names of single parameters."""
    parameters = getattr(config, "target_parameters", None) or ()
    return [*targets, *parameters, *(each.rpartition(".")[0] for each in parameters)]


def _resolve_pattern(
    option: str, pattern: object, names: Sequence[str], aliases: Mapping[str, str]
) -> dict[str, object]:
    """Return a pattern with first names in the place of others. Raises TargetNotFound and UnsupportedConfig."""
    if not isinstance(pattern, Mapping) or not all(isinstance(key, str) for key in pattern):
        raise UnsupportedConfig(f"{option} is {pattern!r:.80}; expected values by names of target modules")
    resolved: dict[str, object] = {}
    for key, value in pattern.items():
        try:
            asked = re.compile(rf"(.*\.)?({key})$")
            known = any(asked.match(name) for name in names)
            others = {first for alias, first in aliases.items() if asked.match(alias) and first in names}
        except re.error as error:
            raise UnsupportedConfig(f"{option} has {key!r}, which is no regular expression: {error}") from error
        if not known and not others:
            ends = {name.rpartition(".")[2] for name in names}
            raise TargetNotFound(
                f"{option} has {key!r}, which matches no target module; {nearest(key.rpartition('.')[2], ends)}"
            )
        # PEFT takes the first key that matches.
        resolved |= {key: value} if known else {}
        resolved |= {first: value for first in sorted(others) if not asked.match(first)}
    return resolved
