"""Which modules a tuner changes: all linear layers but the head, names, or a regular expression.

Names are those of the host as it was loaded: wrappers that other tuners put around a module are looked through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from torch import nn

from .errors import TargetNotFound
from .registry import nearest

ALL_LINEAR = "all-linear"
HEAD_NAMES = frozenset({"lm_head", "embed_out"})


def find_targets(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Return the full names of the modules that `targets` means, in the model's order.

    Args:
        model: the host.
        targets: 'all-linear' for every linear layer without the head; any other string is a regular expression over
            full names; a sequence holds full names or their ends, such as 'q_proj', and may hold 'all-linear'.

    Raises:
        TargetNotFound: an entry matches no module; the message shows the nearest names.
    """
    modules = dict(host_modules(model))
    if isinstance(targets, str) and targets != ALL_LINEAR:
        return _match_regex(modules, targets)
    chosen: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        matched = all_linear(model) if target == ALL_LINEAR else [name for name in modules if _ends_with(name, target)]
        if not matched:
            raise TargetNotFound(_describe_missing(modules, target))
        chosen.update(matched)
    return [name for name in modules if name in chosen]


def all_linear(model: nn.Module) -> list[str]:
    """Return the names of every linear layer but the head."""
    modules = dict(host_modules(model))
    head = _find_head(model, modules)
    return [
        name
        for name, module in modules.items()
        # torch's MultiheadAttention reads its projection's weight and never calls it: an adapter would do nothing.
        if name
        and _is_linear(module)
        and module is not head
        and not isinstance(modules.get(name.rpartition(".")[0]), nn.MultiheadAttention)
    ]


def host_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and modules as in the host without its tuners: a wrapped module stands in its wrapper's place."""
    yield from _walk("", model, set())


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
    # By what all of them have, since only `peft_tuner` imports their classes.
    return isinstance(module, nn.Module) and hasattr(type(module), "adapter_layer_names")


def _is_linear(module: nn.Module) -> bool:
    # transformers' Conv1D is the linear layer of GPT-2, with its weight transposed; compared by name to need no import.
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _find_head(model: nn.Module, modules: dict[str, nn.Module]) -> nn.Module | None:
    """Return the layer that makes logits: the one the model says, one tied to an embedding, or one of a usual name."""
    said = _ask_for_head(model)
    if said is not None:
        return said
    embeddings = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    for name, module in modules.items():
        if _is_linear(module) and (id(module.weight) in embeddings or name.rpartition(".")[2] in HEAD_NAMES):
            return module
    return None


def _ask_for_head(model: nn.Module) -> nn.Module | None:
    ask = getattr(model, "get_output_embeddings", None)
    if ask is None:
        return None
    try:
        head = ask()
    except (NotImplementedError, AttributeError):
        # transformers' default for models without a head.
        return None
    return unwrap(head) if isinstance(head, nn.Module) else None


def _match_regex(modules: dict[str, nn.Module], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TargetNotFound(f"{pattern!r} is no regular expression: {error}") from error
    matched = [name for name in modules if name and compiled.fullmatch(name)]
    if not matched:
        raise TargetNotFound(_describe_missing(modules, pattern))
    return matched


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _describe_missing(modules: dict[str, nn.Module], target: str) -> str:
    if target == ALL_LINEAR:
        kinds = sorted({type(module).__name__ for module in modules.values()})
        return f"target 'all-linear' finds no linear layer in the model, which is made of {', '.join(kinds)}"
    # The last parts of the names are what people write; layer numbers alone say nothing.
    ends = {name.rpartition(".")[2] for name in modules} | {name for name in modules if "." not in name}
    known = sorted(end for end in ends if end and not end.isdigit()) or sorted(name for name in modules if name)
    return f"target {target!r} matches no module of the model; {nearest(target.rpartition('.')[2], known)}"
