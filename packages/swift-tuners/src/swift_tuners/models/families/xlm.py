"""XLM: a layer's attention, MLP and norms lie in four lists side by side, so there is no list of blocks."""

from __future__ import annotations

import dataclasses

from torch import nn

from ...host_modules import host_modules
from ...module_map import ModuleMap


def map_modules(model: nn.Module, found: ModuleMap) -> ModuleMap:
    """Return the map with attention and MLP of every layer, and without the list that looks like blocks."""
    names = [name for name, _ in host_modules(model)]
    return dataclasses.replace(
        found,
        layers=(),
        attention=tuple(name for name in names if name.rpartition(".")[0] == "transformer.attentions"),
        mlp=tuple(name for name in names if name.rpartition(".")[0] == "transformer.ffns"),
    )
