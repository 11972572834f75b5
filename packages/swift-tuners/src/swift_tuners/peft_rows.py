"""Adapters chosen row by row: a layer splits its batch by the adapters that its rows name.

Each part runs through the layer with just its adapters on, so this works for every method; where all rows agree nothing
is split. A layer that lies inside another one sees only the rows that the outer one passes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import UnsupportedConfig
from .peft_layers import PeftLayer, adapters_in, merging_part, mixes_rows, trains_tokens
from .targets import unwrap
from .tuner import RowChoice

_SWITCHES = ("_active_adapter", "_disable_adapters")


def check_rows(name: str, layers: Sequence[tuple[str, PeftLayer]]) -> None:
    """Raise UnsupportedConfig if an adapter sits in layers whose input has no rows of the batch.

    Args:
        name: the adapter.
        layers: its layers, with their full names.
    """
    for path, layer in layers:
        base = unwrap(cast("nn.Module", layer))
        if "expert" in f"{path} {type(base).__name__}".lower() or hasattr(layer, "parameter_name"):
            raise UnsupportedConfig(
                f"tuner {name!r} has an adapter at {path!r}, where experts get tokens of all rows together; "
                "it cannot be chosen for single rows"
            )
        if mixes_rows(layer):
            raise UnsupportedConfig(
                f"tuner {name!r} weighs its parts by all rows of the batch together; "
                "it cannot be chosen for single rows"
            )
        if isinstance(base, nn.MultiheadAttention):
            raise UnsupportedConfig(
                f"tuner {name!r} has an adapter at {path!r}, torch's MultiheadAttention, whose inputs are not one "
                "tensor of rows; it cannot be chosen for single rows"
            )


def choose_rows(layers: Sequence[PeftLayer], choice: RowChoice | None) -> None:
    """Let layers run each row with the adapters that it names, or as always again after None."""
    for layer in layers:
        attributes = vars(layer)
        if choice is None:
            if isinstance(attributes.get("forward"), _RowForward):
                del attributes["forward"]
        elif "forward" not in attributes:
            attributes["forward"] = _RowForward(layer, choice)


class _RowForward:
    """The forward of one layer while adapters are chosen by row; an attribute of the layer, so that hooks still run."""

    def __init__(self, layer: PeftLayer, choice: RowChoice) -> None:
        self._layer = layer
        self._choice = choice

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the layer takes and returns
        groups = self._group()
        if len(groups) == 1:
            with _only(self._layer, next(iter(groups))):
                return self._run(*args, **kwargs)
        rows = self._check_input(args, kwargs)
        outputs, order = [], []
        for names, indices in groups.items():
            part = rows[torch.tensor(indices, device=rows.device)]
            with _only(self._layer, names), self._narrowed(indices):
                outputs.append(self._run(part, *args[1:], **kwargs))
            order += indices
        if not all(isinstance(output, Tensor) for output in outputs):
            raise UnsupportedConfig(
                f"tuners were chosen by row, but {self._name()} returns {type(outputs[0]).__name__}; expected a tensor"
            )
        back = torch.tensor(order, device=outputs[0].device).argsort()
        return torch.cat(outputs)[back]

    def _run(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as above
        return type(self._layer).forward(self._layer, *args, **kwargs)  # type: ignore[attr-defined]  # a module

    def _group(self) -> dict[frozenset[str], list[int]]:
        held = frozenset(adapters_in(self._layer))
        groups: dict[frozenset[str], list[int]] = {}
        for row, names in enumerate(self._choice):
            groups.setdefault(names & held, []).append(row)
        return groups

    def _check_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        if len(tensors) != 1 or not args or args[0] is not tensors[0]:
            raise UnsupportedConfig(
                f"tuners were chosen by row, but {self._name()} gets {len(tensors)} tensors; expected one, the first"
            )
        if tensors[0].dim() == 0 or tensors[0].shape[0] != len(self._choice):
            raise UnsupportedConfig(
                f"tuners were chosen for {len(self._choice)} rows, but {self._name()} gets an input of shape "
                f"{tuple(tensors[0].shape)}; its first dimension must be the rows, "
                "so leave out beam search and adapters on layers that mix rows"
            )
        return tensors[0]

    @contextmanager
    def _narrowed(self, indices: Sequence[int]) -> Iterator[None]:
        """Let layers inside this one know which rows they get."""
        inner = [vars(each).get("forward") for each in cast("nn.Module", self._layer).modules()]
        below = [each for each in inner if isinstance(each, _RowForward) and each is not self]
        before = [each._choice for each in below]
        for each in below:
            each._choice = [each._choice[index] for index in indices]
        try:
            yield
        finally:
            for each, choice in zip(below, before, strict=True):
                each._choice = choice

    def _name(self) -> str:
        return f"a layer around {type(unwrap(cast('nn.Module', self._layer))).__name__}"


@contextmanager
def _only(layer: PeftLayer, names: frozenset[str]) -> Iterator[None]:
    """Have just these of a layer's adapters on, without PEFT's side effects on what requires gradients."""
    parts: list[Any] = [layer, merging_part(layer)] if trains_tokens(layer) else [layer]
    before = [tuple(getattr(part, name) for name in _SWITCHES) for part in parts]
    active = [name for name in adapters_in(layer) if name in names]
    for part in parts:
        part._active_adapter, part._disable_adapters = active, not active
    try:
        yield
    finally:
        for part, values in zip(parts, before, strict=True):
            part._active_adapter, part._disable_adapters = values
