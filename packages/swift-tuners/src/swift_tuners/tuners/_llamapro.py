"""LLaMA-Pro's tuner: blocks put into the model's list, passed over while it is off.

A block that is off stays in the list as a module, so that the names of all blocks, which other tuners are saved under,
stay the same; the list passes over it, and configs and places are those of the host.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CannotMerge, CheckpointMismatch, UnsupportedConfig
from ..host_modules import host_modules, is_linear, unwrap
from ..module_map import find_layers
from ..offloaded_weights import is_offloaded
from ..quantizer import quantizer_of
from ..tuner import JSON, AnyTuner, Phase, Tuner
from ._blocks import OFF, Entries, all_blocks, change_blocks, find_configs, find_places, read_entries, shown_blocks
from ._host_training import BLOCK_OF_TUNER, CHILD_OF_TUNER, Place, statistics_of
from ._identity import IdentityMaker, capture_calls, run_on_tokens
from .llamapro import HOST_BLOCKS

if TYPE_CHECKING:
    from .llamapro import LLaMAProConfig

_BOUND_TO_BLOCKS = frozenset({"prefix_tuning", "restuning"})
"""Kinds of tuners that hold something for each block, or join what every block did."""

_MODES = frozenset({"training", "gradient_checkpointing", OFF, BLOCK_OF_TUNER})
"""Attributes of modules that say how they run at present."""


class LLaMAProTuner(Tuner["LLaMAProConfig"]):
    """Adds blocks to the host and trains only them.

    Args:
        config: how many blocks, and where.
        name: the tuner's name.
        host_blocks: how many blocks the host had when the tuner was saved; None for a new one.
    """

    phase = Phase.STRUCTURE
    kind = "llamapro"

    def __init__(self, config: LLaMAProConfig, *, name: str, host_blocks: int | None = None) -> None:
        super().__init__(config, name=name)
        self._host_blocks = host_blocks
        self._model: nn.Module | None = None
        self._layers = nn.ModuleList()
        self._blocks: list[nn.Module] = []
        self._entries: list[Entries] = []
        self._places: dict[str, Place] = {}

    @property
    def model(self) -> nn.Module:
        """The host."""
        assert self._model is not None, "the tuner is not attached"
        return self._model

    def attach(self, model: nn.Module) -> None:
        """Put the new blocks in.

        Raises:
            UnsupportedConfig: the model has no list of blocks, fewer than the config needs, quantized ones, or such
                whose copy cannot be made the identity.
            CheckpointMismatch: it was saved on a model with another number of blocks.
        """
        list_name, self._layers = find_layers(model)
        shown = shown_blocks(self._layers)
        if self._host_blocks not in (None, len(shown)):
            raise CheckpointMismatch(
                f"llamapro tuner {self.name!r} was made for a model with {self._host_blocks} blocks, this one has "
                f"{len(shown)}, those of other active tuners included; load the model that it was trained on"
            )
        _check_at_hand(model, self.name)
        sources = [index for group in self._groups(len(shown)) for index in group]
        for index in sources:
            _check_trainable(shown[index], f"{list_name}.{index}", self.name)
        find_places(shown)
        calls = capture_calls(model, [shown[index] for index in sources])
        # With a cache, since models make it as long as their config says.
        before = run_on_tokens(model, use_cache=True)
        configs, maker = find_configs(model, self._layers), IdentityMaker()
        new = []
        for index, call in zip(sources, calls, strict=True):
            block = _copy(shown[index])
            maker.make(block, call, name=f"{list_name}.{index}")
            vars(block)[BLOCK_OF_TUNER] = self.name
            new.append(block)
        self._model, self.active, self._blocks, self._host_blocks = model, True, new, len(shown)
        self._entries = [read_entries(configs, shown, shown[index]) for index in sources]
        self._places = {
            f"{number}.{path}.{name}" if path else f"{number}.{name}": Place(module, name)
            for number, block in enumerate(new)
            for path, module in host_modules(block)
            for name, parameter in module._parameters.items()
            if parameter is not None
        }
        try:
            self._insert(shown, sources)
            self._check_start(before)
        except BaseException:
            self.detach()
            raise

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the new blocks' parameters."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {names[id(place.parameter)]: place.parameter for place in self._places.values()}

    def conflict_with(self, other: AnyTuner) -> str | None:
        """Refuse what is bound to all blocks that there are when it is attached: it would fail with new ones off."""
        if other.kind in _BOUND_TO_BLOCKS:
            return (
                f"{other.kind} is made for a fixed number of blocks, and {self.kind} takes its own away when it is off"
            )
        return None

    def state(self) -> dict[str, Tensor]:
        """Return the new blocks' weights and running statistics, by the block's number and the name in the block."""
        places = self._places | statistics_of(self._places)
        return {name: place.tensor.detach() for name, place in places.items()}

    def config_fields(self) -> dict[str, JSON]:
        """Return the options, and for how many blocks of the host they were meant."""
        return {**super().config_fields(), HOST_BLOCKS: self._host_blocks}

    def activate(self, active: bool) -> None:
        """Let the list show the new blocks, or pass over them."""
        if active == self.active:
            return
        before = shown_blocks(self._layers)
        for block in self._blocks:
            if active:
                vars(block).pop(OFF)
            else:
                vars(block)[OFF] = True
        self._change(before, all_blocks(self._layers))
        self.active = active

    def detach(self) -> None:
        """Take the new blocks out of the list."""
        own = {id(block) for block in self._blocks}
        before = shown_blocks(self._layers)
        self._change(before, [block for block in all_blocks(self._layers) if id(block) not in own])
        self._forget()

    def check_merge(self) -> None:
        """Raise CannotMerge if transformers would build another model than this one from the config."""
        build = type(self.model)
        config = getattr(self.model, "config", None)
        if config is None or not hasattr(self.model, "save_pretrained"):
            return
        try:
            with torch.device("meta"):
                expected = build(copy.deepcopy(config))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise CannotMerge(
                f"tuner {self.name!r} cannot become part of {build.__name__}: its config does not describe the model "
                f"with the new blocks ({error}); save the tuner instead"
            ) from error
        differing = sorted(_describe(expected).items() ^ _describe(self.model).items())
        if differing:
            raise CannotMerge(
                f"tuner {self.name!r} cannot become part of {build.__name__}: a model built from its config would "
                f"differ in {differing[0][0]!r}; save the tuner instead"
            )

    def merge(self) -> None:
        """Leave the new blocks in the host, as blocks like all others."""
        self.check_merge()
        self.activate(True)
        for block in self._blocks:
            del vars(block)[BLOCK_OF_TUNER]
            block.requires_grad_(True)
        self._forget()

    def _groups(self, num_blocks: int) -> list[list[int]]:
        """Return for each group the blocks that are copied.

        Raises:
            UnsupportedConfig: the numbers do not fit together.
        """
        new, groups = self.config.num_new_blocks, self.config.num_groups
        groups = new if groups is None else groups
        if new < 1 or groups < 1 or new % groups:
            raise UnsupportedConfig(
                f"num_new_blocks={new!r} in num_groups={groups!r}; expected a positive multiple of the groups"
            )
        ends = [(group + 1) * num_blocks // groups for group in range(groups)]
        sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        if min(sizes) < new // groups:
            raise UnsupportedConfig(
                f"num_new_blocks={new!r} in {groups} groups is more than a model with {num_blocks} blocks has to copy; "
                f"choose num_new_blocks of at most {num_blocks}"
            )
        return [list(range(end - new // groups, end)) for end in ends]

    def _insert(self, shown: list[nn.Module], sources: list[int]) -> None:
        """Put the copies after the last block of their group."""
        blocks, per_group = all_blocks(self._layers), len(self._blocks) // len(self._groups(len(shown)))
        for start in range(0, len(self._blocks), per_group):
            last = shown[sources[start + per_group - 1]]
            position = next(index for index, block in enumerate(blocks) if block is last) + 1
            blocks[position:position] = self._blocks[start : start + per_group]
        self._change(shown, blocks)

    def _change(self, before: list[nn.Module], blocks: list[nn.Module]) -> None:
        change_blocks(self.model, self._layers, before, blocks, dict(zip(self._blocks, self._entries, strict=True)))

    def _check_start(self, before: Tensor | None) -> None:
        """Refuse a model that counts its blocks in some way that was not found, and answers otherwise with more."""
        if before is None or before.is_meta:
            return
        after = run_on_tokens(self.model, use_cache=True)
        # Sums of experts may round in another order at each run.
        bound = 100 * torch.finfo(before.dtype).eps * before.abs().max().item() if before.is_floating_point() else 0.0
        difference = None if after is None else (after - before).abs().max().item()
        if difference is None or not difference <= bound:
            how = "fails" if difference is None else f"does not answer as before (it differs by {difference:.2g})"
            raise UnsupportedConfig(
                f"{type(self.model).__name__} {how} with new blocks that are the identity: its computation depends on "
                "the number of its blocks; use another method, such as lora"
            )

    def _forget(self) -> None:
        self._model, self._layers = None, nn.ModuleList()
        self._blocks, self._entries, self._places = [], [], {}


def _copy(block: nn.Module) -> nn.Module:
    """Return a copy that reads the same config as the block does."""
    shared = [value for module in block.modules() for value in vars(module).values() if hasattr(value, "to_dict")]
    memo: dict[int, Any] = {id(value): value for value in shared}
    return copy.deepcopy(block, memo)


def _check_at_hand(model: nn.Module, tuner: str) -> None:
    """Raise UnsupportedConfig if weights are offloaded: blocks are copied, and the model is tried on some tokens."""
    for path, module in host_modules(model):
        if is_offloaded(module):
            raise UnsupportedConfig(
                f"llamapro tuner {tuner!r} copies blocks and tries the model, but device_map has offloaded {path!r}; "
                "give it a device in device_map, or use lora"
            )


def _check_trainable(block: nn.Module, name: str, tuner: str) -> None:
    for path, module in host_modules(block):
        packed = is_linear(module) and all(own == "bias" for own, _ in module.named_parameters())
        # Some quantized types say of themselves that they are floats.
        packed = packed or quantizer_of(module) is not None
        if packed or not all(each.is_floating_point() for each in module._parameters.values() if each is not None):
            raise UnsupportedConfig(
                f"llamapro tuner {tuner!r} would copy block {name!r}, whose {path!r} is quantized and cannot train; "
                "load the model unquantized, or use lora"
            )


def _describe(model: nn.Module) -> dict[str, str]:
    """Return each module's class, the shapes of its parameters, and of the blocks' modules the numbers and words.

    Without what tuners added or switched off.
    """
    described: dict[str, str] = {}

    def walk(path: str, module: nn.Module, in_block: bool) -> None:
        module = unwrap(module)
        # A list, asked for its items, leaves out what is off.
        items = dict(enumerate(module)) if isinstance(module, nn.ModuleList) else None
        described[path] = type(module).__name__ if items is None else nn.ModuleList.__name__
        for name, parameter in module._parameters.items():
            if parameter is not None:
                described[f"{path}.{name}"] = str(tuple(parameter.shape))
        for name, value in vars(module).items():
            if in_block and isinstance(value, int | float | str) and not name.startswith("_") and name not in _MODES:
                described[f"{path}.{name}"] = repr(value)
        children = module._modules if items is None else {str(index): child for index, child in items.items()}
        for name, child in children.items():
            if child is not None and not name.startswith(CHILD_OF_TUNER):
                walk(f"{path}.{name}" if path else name, child, in_block or items is not None)

    walk("", model, False)
    return described
