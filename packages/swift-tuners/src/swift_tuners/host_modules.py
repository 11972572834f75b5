"""The modules of a host by the names it was loaded with.

Wrappers that tuners put around a module are looked through, so the same names hold before and after a tuner came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

# Where layers of quantized linear maps keep their numbers: torch and bitsandbytes, GPTQ and AWQ, HQQ, AQLM.
WEIGHT_ATTRIBUTES = ("weight", "qweight", "W_q", "codes")

# Subclasses of nn.Linear that are none: routers return a choice of experts, others map groups of features apart.
NOT_LINEAR = re.compile(r"Router|Gate$|Gating|Grouped")


def host_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and modules as in the host without its tuners: a wrapped module stands in its wrapper's place."""
    yield from _walk("", model, set())


def alias_names(model: nn.Module) -> dict[str, str]:
    """Return the further names of modules that are registered more than once, each with its `host_modules` name."""
    first: dict[int, str] = {}
    return dict(_walk_aliases("", model, first, ()))


def _walk_aliases(
    name: str, module: nn.Module, first: dict[int, str], above: tuple[int, ...]
) -> Iterator[tuple[str, str]]:
    module = unwrap(module)
    if id(module) in above:
        return
    known = first.setdefault(id(module), name)
    if known != name:
        yield name, known
    for child_name, child in module._modules.items():
        if child is not None:
            path = f"{name}.{child_name}" if name else child_name
            yield from _walk_aliases(path, child, first, (*above, id(module)))


def _walk(name: str, module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    module = unwrap(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for child_name, child in module.named_children():
        yield from _walk(f"{name}.{child_name}" if name else child_name, child, seen)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the host's module inside the wrappers of tuners."""
    while is_wrapper(module):
        inner = getattr(module, "base_layer", None)
        if inner is None:
            inner = getattr(module, "original_module", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner
    return module


def is_wrapper(module: object) -> bool:
    """Say whether this is a module that PEFT put in the place of one of the host's."""
    # By what all of them have, since only `peft_*` modules import their classes.
    return isinstance(module, nn.Module) and hasattr(type(module), "adapter_layer_names")


def is_linear(module: nn.Module) -> bool:
    """Say whether this is a linear layer: torch's, a quantized one, or GPT-2's Conv1D."""
    kind = type(module)
    if isinstance(module, nn.Linear):
        return not NOT_LINEAR.search(kind.__name__)
    # transformers' Conv1D is the linear layer of GPT-2, with its weight transposed; compared by name to need no import.
    if kind.__name__ == "Conv1D":
        return True
    if is_wrapper(module) or isinstance(module, nn.Embedding | nn.Bilinear):
        return False
    # Quantizers replace nn.Linear by classes of their own, alike only in what they hold.
    sizes = all(isinstance(getattr(module, size, None), int) for size in ("in_features", "out_features"))
    return sizes and any(getattr(module, name, None) is not None for name in WEIGHT_ATTRIBUTES)


def is_under(name: str, root: str) -> bool:
    """Say whether the module `name` is `root` or lies inside of it; the root '' is the whole model."""
    return not root or name == root or name.startswith(f"{root}.")
