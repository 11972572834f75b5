"""Copies of blocks made the identity: which weights write into the residual stream is found by trying.

With all weights zero a block with a residual passes its input on. Then weights come back in the order in which they are
used, as long as the block stays the identity; what must stay zero is the last of each branch: o_proj and down_proj.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import UnsupportedConfig
from ..host_modules import host_modules
from ..module_map import is_norm, map_modules

_NUM_TOKENS = 5
_UNFIT = (TypeError, ValueError, RuntimeError, LookupError, AttributeError)
"""What models raise when they are called with inputs that they do not take, which is how we find out: an argument too
few or too many (TypeError), their own checks (ValueError), shapes and missing kernels of torch (RuntimeError), a
dimension or an entry that is not there (LookupError), and None in the place of what was left out (AttributeError)."""
_STATEFUL = re.compile(r"past|cache|^state$")


@dataclass
class Call:
    """How a model calls one of its blocks; `args` and `kwargs` hold the hidden states under `place`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | str

    def run(self, block: nn.Module) -> tuple[Tensor, Tensor]:
        """Return random hidden states, the same at each run, and what the block makes of them."""
        given: Tensor = self.args[self.place] if isinstance(self.place, int) else self.kwargs[self.place]
        random = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given.device, given.dtype)
        if isinstance(self.place, int):
            output = block(*self.args[: self.place], random, *self.args[self.place + 1 :], **self.kwargs)
        else:
            output = block(*self.args, **{**self.kwargs, self.place: random})
        return random, output[0] if isinstance(output, tuple | list) else output


def capture_calls(model: nn.Module, blocks: Sequence[nn.Module]) -> list[Call]:
    """Run a model on a few tokens and return how it calls these blocks.

    Where it does not run on tokens alone, blocks are taken to be called with hidden states of the model's width.
    """
    calls: dict[nn.Module, Call] = {}

    def note(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = {name: None if _STATEFUL.search(name) else value for name, value in kwargs.items()}
        places: list[tuple[int | str, object]] = [*enumerate(args)]
        places += [("hidden_states", named.get("hidden_states")), *named.items()]
        place = next((place for place, value in places if _is_hidden(value)), None)
        if place is not None:
            calls.setdefault(block, Call(args, named, place))

    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        if run_on_tokens(model, use_cache=False) is None:
            # On 'meta', transformers looks into masks for packed rows unless there is a cache.
            run_on_tokens(model, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    return [calls.get(block) or _plain_call(model, block) for block in blocks]


def run_on_tokens(model: nn.Module, *, use_cache: bool) -> Tensor | None:
    """Return a model's output for a few tokens, outside training; None if it does not run on them alone."""
    inputs, device = getattr(model, "dummy_inputs", None), next(model.parameters()).device
    embedding = _find_embedding(model)
    if embedding is None:
        return None
    size = embedding.weight.shape[0]
    ids = (torch.arange(2 * _NUM_TOKENS, device=device) % size).reshape(2, _NUM_TOKENS)
    named = {name: ids for name, value in (inputs or {}).items() if name.endswith("input_ids") and value is not None}
    with _answering(model), torch.no_grad():
        try:
            cached = {"use_cache": use_cache} if "use_cache" in inspect.signature(model.forward).parameters else {}
            output = model(**named, **cached) if named else model(ids)
        except _UNFIT:
            return None
    first = getattr(output, "logits", None)
    if first is None:
        first = next(iter(output.values())) if isinstance(output, Mapping) else output
    first = first[0] if isinstance(first, tuple | list) else first
    return first if isinstance(first, Tensor) else None


class IdentityMaker:
    """Makes blocks the identity; what it found of one block is tried first on the next that is like it."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], list[str]] = {}

    def make(self, block: nn.Module, call: Call, *, name: str) -> None:
        """Zero what keeps a block from being the identity.

        Args:
            block: a copy of one of the model's blocks.
            call: how the model calls it.
            name: the block's, for messages.

        Raises:
            UnsupportedConfig: no weights of it could be zero to that end.
        """
        kind = (type(block), *((name, tuple(each.shape)) for name, each in block.named_parameters()))
        if any(each.is_meta for each in block.parameters()):
            self._zero(block, self._found.get(kind) or self._look(_realize(block), _realize_call(call), name))
            return
        with _answering(block), torch.no_grad():
            known = self._found.get(kind)
            kept = {each: block.get_parameter(each).detach().clone() for each in known or ()}
            self._zero(block, kept)
            if known is None or not _is_identity(block, call):
                for each, value in kept.items():
                    block.get_parameter(each).copy_(value)
                self._found[kind] = self._look(block, call, name)

    def _look(self, block: nn.Module, call: Call, name: str) -> list[str]:
        with _answering(block), torch.no_grad():
            groups = _groups_in_order(block, call)
            values = {each: block.get_parameter(each).detach().clone() for group in groups for each in group}
            norms = {
                f"{path}.{own}" for path, module in host_modules(block) if is_norm(module) for own in module._parameters
            }
            for candidates in ([each for each in values if each not in norms], list(values)):
                self._zero(block, candidates)
                if _is_identity(block, call):
                    break
            else:
                raise UnsupportedConfig(
                    f"a copy of block {name!r} ({type(block).__name__}) is not the identity whatever weights are "
                    "zero: the block adds nothing to a residual stream, so a model with more of them would not start "
                    "unchanged; use another method, such as lora"
                )
            return _restore_what_can_be(block, call, groups, values, candidates)

    @staticmethod
    def _zero(block: nn.Module, names: Sequence[str] | Mapping[str, Tensor]) -> None:
        for name in names:
            block.get_parameter(name).detach().zero_()


def _restore_what_can_be(
    block: nn.Module,
    call: Call,
    groups: Sequence[Sequence[str]],
    values: Mapping[str, Tensor],
    zeroed: Sequence[str],
) -> list[str]:
    """Give weights their values back while the block stays the identity; return the names of those that cannot."""
    remaining = []
    for group in groups:
        chosen = [name for name in group if name in zeroed]
        for name in chosen:
            block.get_parameter(name).copy_(values[name])
        if not _is_identity(block, call):
            IdentityMaker._zero(block, chosen)
            remaining += chosen
    return remaining


def _is_identity(block: nn.Module, call: Call) -> bool:
    hidden, output = call.run(block)
    return torch.equal(hidden, output)


def _groups_in_order(block: nn.Module, call: Call) -> list[list[str]]:
    """Return the block's parameters in the order of their use; those of like experts, which run or not, together."""
    order: dict[str, int] = {"": 0}
    paths = {path: module for path, module in block.named_modules() if path}

    def note(path: str, module: nn.Module, args: object) -> None:
        order.setdefault(path, len(order))

    handles = [module.register_forward_pre_hook(partial(note, path)) for path, module in paths.items()]
    try:
        call.run(block)
    finally:
        for handle in handles:
            handle.remove()
    groups: dict[str, list[str]] = {}
    used: dict[str, tuple[int, int]] = {}
    for index, (name, _) in enumerate(block.named_parameters()):
        path = name.rpartition(".")[0]
        while path not in order:
            # Not called as a module: its weights are read by the one around it.
            path = path.rpartition(".")[0]
        key = _without_numbers(block, name)
        groups.setdefault(key, []).append(name)
        used[key] = max(used.get(key, (0, index)), (order[path], index))
    return [groups[key] for key in sorted(groups, key=lambda key: used[key])]


def _without_numbers(block: nn.Module, name: str) -> str:
    """Return a name that is the same for all items of a list, but not for the steps of an nn.Sequential."""
    module: Any = block
    parts = []
    for part in name.split("."):
        parts.append("*" if isinstance(module, nn.ModuleList) else part)
        module = getattr(module, part)
    return ".".join(parts)


def _plain_call(model: nn.Module, block: nn.Module) -> Call:
    embedding = _find_embedding(model)
    weights = [module for _, module in host_modules(block) if is_norm(module) or isinstance(module, nn.Linear)]
    if embedding is not None:
        width = embedding.weight.shape[-1]
    elif weights and isinstance(weights[0].weight, Tensor):
        width = weights[0].weight.shape[-1]
    else:
        raise UnsupportedConfig(f"{type(model).__name__} does not run on tokens, so its blocks cannot be tried out")
    weight = next(block.parameters())
    # Tokens, or the points of a picture.
    for shape in ((2, _NUM_TOKENS, width), (2, width, _NUM_TOKENS, _NUM_TOKENS)):
        call = Call((torch.zeros(shape, device=weight.device, dtype=weight.dtype),), {}, 0)
        try:
            with _answering(block), torch.no_grad():
                call.run(block)
        except _UNFIT as error:
            problem = error
        else:
            return call
    raise UnsupportedConfig(
        f"{type(model).__name__} does not run on tokens alone, nor its block {type(block).__name__} on hidden states "
        f"alone ({problem}), so that what to make zero in new blocks cannot be found; use another method, such as lora"
    ) from problem


def _find_embedding(model: nn.Module) -> Any:  # noqa: ANN401  # a module with a weight of two dimensions
    name = map_modules(model).embedding
    module = None if name is None else dict(host_modules(model))[name]
    return module if isinstance(getattr(module, "weight", None), Tensor) else None


def _is_hidden(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 3  # B, T, D


@contextmanager
def _answering(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _realize(block: nn.Module) -> nn.Module:
    """Return a copy of a block on 'meta' with random values: which weights must be zero does not depend on them."""
    import copy

    real = copy.deepcopy(block).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in (*real.parameters(), *real.buffers()):
        tensor.data = _random_like(tensor, generator)
    return real


def _realize_call(call: Call) -> Call:
    generator = torch.Generator().manual_seed(1)
    real: Callable[[Any], Any] = lambda value: _random_like(value, generator) if isinstance(value, Tensor) else value  # noqa: E731
    return Call(tree_map(real, call.args), tree_map(real, call.kwargs), call.place)


def _random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return torch.ones(tensor.shape, dtype=tensor.dtype)
    return (0.1 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
