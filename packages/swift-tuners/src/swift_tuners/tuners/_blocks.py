"""A model's list of blocks made longer and shorter: what numbers and configs say of the blocks goes along.

transformers' blocks know their place (for caches), and configs count them and describe each. Both are found by looking:
a number is a block's place if it is so in all blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import nn

from ..errors import UnsupportedConfig
from ..host_modules import host_modules

OFF = "swift_off"
"""Attribute of a block that the list passes over."""
_COUNTS = re.compile(r"(num_)?(hidden_|decoder_)?layers|n_layers?|num_blocks")
_DECODER_COUNTS = re.compile(r"(num_)?decoder_layers")
_PER_BLOCK = re.compile(r"layer|block|pattern|intermediate|heads|window|types|idx|indices")
_CERTAIN_PLACE = re.compile(r"layer_?(idx|index|id|number)$|block_?(idx|index)$")

Entries = dict[tuple[int, str], Any]
"""What the configs say of one block, by the config's number and the field."""


class _Field(NamedTuple):
    config: Any
    number: int
    name: str
    form: Literal["list", "places"]


class _SkipsBlocks(nn.ModuleList):
    """A list that passes over blocks which are off; as modules they stay where they are, and so do their names."""

    def _shown(self) -> list[nn.Module]:
        return shown_blocks(self)

    def __len__(self) -> int:
        return len(self._shown())

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._shown())

    def __getitem__(self, index: int | slice) -> Any:  # noqa: ANN401  # as ModuleList has it
        found = self._shown()[index]
        return nn.ModuleList(found) if isinstance(found, list) else found


def all_blocks(layers: nn.ModuleList) -> list[nn.Module]:
    """Return the blocks, also those that are off."""
    return [block for block in layers._modules.values() if block is not None]


def shown_blocks(layers: nn.ModuleList) -> list[nn.Module]:
    """Return the blocks that run."""
    return [block for block in all_blocks(layers) if not vars(block).get(OFF)]


def change_blocks(
    model: nn.Module,
    layers: nn.ModuleList,
    before: Sequence[nn.Module],
    blocks: Sequence[nn.Module],
    entries: Mapping[nn.Module, Entries],
) -> None:
    """Let a list hold and show other blocks.

    Args:
        model: the model that the list is in.
        layers: the list.
        before: the blocks that it showed so far.
        blocks: what it is to hold, in order; those marked `OFF` are not shown.
        entries: what the configs are to say of those that were not shown before.
    """
    configs, places = find_configs(model, layers), find_places(before)
    fields = _find_fields(configs, len(before))
    known = {**{block: read_entries(configs, before, block) for block in before}, **entries}
    counts = [(config, name) for config in configs for name in _find_counts(config, len(before))]
    layers._modules.clear()
    layers._modules.update({str(index): block for index, block in enumerate(blocks)})
    shown = shown_blocks(layers)
    _let_skip(layers, len(shown) < len(blocks))
    for index, block in enumerate(shown):
        inside = dict(host_modules(block))
        for path, attribute, stride, offset in places:
            if path in inside and attribute in vars(inside[path]):
                setattr(inside[path], attribute, stride * index + offset)
    for config, name in counts:
        setattr(config, name, len(shown))
    for field in fields:
        values = [known[block].get((field.number, field.name)) for block in shown]
        setattr(field.config, field.name, _join(field, values))


def find_places(blocks: Sequence[nn.Module]) -> list[tuple[str, str, int, int]]:
    """Return the numbers in the blocks' modules that are the block's place, as module, attribute, stride and offset.

    A block with two layers of attention numbers them 2 i and 2 i + 1: stride 2, offsets 0 and 1.

    Raises:
        UnsupportedConfig: a number is called a place, and is not one in a way that could be kept up.
    """
    values: dict[tuple[str, str], dict[int, int]] = {}
    for index, block in enumerate(blocks):
        for path, module in host_modules(block):
            for attribute, value in vars(module).items():
                if type(value) is int:
                    values.setdefault((path, attribute), {})[index] = value
    found = []
    for (path, attribute), by_index in values.items():
        certain = bool(_CERTAIN_PLACE.search(attribute))
        (first, value), last = next(iter(by_index.items())), max(by_index)
        stride = (by_index[last] - value) // (last - first) if last > first else 1
        offset = value - stride * first
        fits = all(each == stride * index + offset for index, each in by_index.items())
        if fits and stride > 0 and 0 <= offset <= stride and (certain or (stride == 1 and len(by_index) > 1)):
            found.append((path, attribute, stride, offset))
        elif certain:
            raise UnsupportedConfig(
                f"{attribute} of {path or 'the blocks'!r} is {list(by_index.values())} in the blocks "
                f"{list(by_index)}, which is not their place: what it would be with more blocks is not known; use "
                "another method, such as lora"
            )
    return found


def find_configs(model: nn.Module, layers: nn.ModuleList) -> list[Any]:
    """Return the config objects that describe the blocks: those of the modules around the list and inside it."""
    holders = [module for module in model.modules() if any(each is layers for each in module.modules())]
    found = {
        id(config): config
        for module in [*holders, *layers.modules()]
        if (config := vars(module).get("config")) is not None and not isinstance(config, nn.Module)
    }
    return list(found.values())


def read_entries(configs: Sequence[Any], blocks: Sequence[nn.Module], block: nn.Module) -> Entries:
    """Return what the configs say of one of the blocks that they describe."""
    index = next(number for number, each in enumerate(blocks) if each is block)
    return {
        (field.number, field.name): (
            index in getattr(field.config, field.name)
            if field.form == "places"
            else getattr(field.config, field.name)[index]
        )
        for field in _find_fields(configs, len(blocks))
    }


def _find_counts(config: Any, count: int) -> list[str]:  # noqa: ANN401  # a config of transformers or of any other
    names = [name for name, value in vars(config).items() if type(value) is int and value == count]
    # A config of encoder and decoder counts the encoder's layers under the general name.
    if getattr(config, "is_encoder_decoder", False):
        return [name for name in names if _DECODER_COUNTS.fullmatch(name)]
    general = getattr(config, "attribute_map", {}).get("num_hidden_layers")
    return [name for name in names if name == general or _COUNTS.fullmatch(name)]


def _find_fields(configs: Sequence[Any], count: int) -> list[_Field]:
    """Return the fields that have an entry for each block, or list the places of some of them."""
    found = []
    for number, config in enumerate(configs):
        for name, value in vars(config).items():
            if not _PER_BLOCK.search(name) or not isinstance(value, list | tuple | str) or not value:
                continue
            ascending = not isinstance(value, str) and all(
                type(each) is int and low < each < count for low, each in zip((-1, *value), value, strict=False)
            )
            # Of two blocks, [0, 1] could be either.
            if ascending and (count > 2 or len(value) < count):
                found.append(_Field(config, number, name, "places"))
            elif len(value) == count:
                found.append(_Field(config, number, name, "list"))
    return found


def _join(field: _Field, values: list[Any]) -> Any:  # noqa: ANN401  # a field of a config
    if field.form == "places":
        values = [index for index, value in enumerate(values) if value]
    present = getattr(field.config, field.name)
    return "".join(values) if isinstance(present, str) else type(present)(values)


def _let_skip(layers: nn.ModuleList, skip: bool) -> None:
    kind = type(layers)
    if isinstance(layers, _SkipsBlocks) and not skip:
        layers.__class__ = kind.__bases__[1]
    elif skip and not isinstance(layers, _SkipsBlocks):
        layers.__class__ = type(_SkipsBlocks.__name__, (_SkipsBlocks, kind), {})
