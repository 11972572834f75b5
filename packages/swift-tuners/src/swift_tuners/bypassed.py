"""Linear layers that are never called: their parent reads the weight and multiplies itself.

An adapter around such a layer has no effect in the forward pass, gets no gradient, and changes the output once it is
merged. Mamba's fused kernels do so, torch's own attention, and some routers of experts. Found by reading the source of
the parent's methods, so that no list of architectures has to be kept.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping

from torch import nn

# Not what a weight looks like, nor its data, which are used outside of a computation, nor a slice: the slices for
# tensor-parallel checkpoints stand in a branch beside the call.
READ = re.compile(
    r"(?<!isinstance\()\bself\.(\w+)\.weight\b"
    r"(?!\.(?:dtype|device|shape|size|ndim|numel|dim|requires_grad|is_\w+|data)\b|\[)"
)
# Methods that run before or after a model computes.
ASIDE = re.compile(r"init|reset|tie_|resize|load|save|fuse|merge|prune|^_?set_|^extra_repr$")


def is_bypassed(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Say whether the parent of this layer reads its weight.

    Args:
        modules: all modules of the host by their names.
        name: the layer's name.
    """
    parent, child = _parent_of(modules, name)
    return parent is not None and child in _weights_read_by(type(parent))  # type: ignore[arg-type]  # a class is hashable


def is_never_called(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Say whether the parent of this layer reads its weight and has no branch that calls the layer instead.

    Args:
        modules: all modules of the host by their names.
        name: the layer's name.
    """
    parent, child = _parent_of(modules, name)
    if parent is None or child not in _weights_read_by(type(parent)):  # type: ignore[arg-type]  # as above
        return False
    call = re.compile(rf"\bself\.{re.escape(child)}\(")
    return not any(call.search(source) for source in _sources(type(parent)))


def _parent_of(modules: Mapping[str, nn.Module], name: str) -> tuple[nn.Module | None, str]:
    parent_name, _, child = name.rpartition(".")
    parent = modules.get(parent_name)
    return (None if isinstance(parent, nn.ModuleList | nn.ModuleDict | nn.Sequential) else parent), child


@functools.cache
def _weights_read_by(kind: type[nn.Module]) -> frozenset[str]:
    """Return the names of the children whose weights the methods of a class use."""
    return frozenset(name for source in _sources(kind) for name in READ.findall(source))


def _sources(kind: type[nn.Module]) -> Iterator[str]:
    for each in kind.__mro__:
        if each is nn.Module:
            return
        if each is nn.TransformerEncoderLayer:
            # It reads all weights at once where nothing is hooked in, which adapters and hooks keep it from.
            continue
        for name, value in vars(each).items():
            function = inspect.unwrap(value) if callable(value) else None
            if not inspect.isfunction(function) or ASIDE.search(name):
                continue
            try:
                yield inspect.getsource(function)
            except (OSError, TypeError):
                # Written at run time or shipped without source: nothing is known about it.
                continue
