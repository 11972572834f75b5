"""Tensors out of the way: moved to main memory, or to a temporary file and 'meta', and back as the same objects.

Optimizers and tuners know parameters by identity. So the real ones are only emptied and kept aside, and stand-ins
show in the modules until they come back.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from .errors import UnsupportedConfig
from .weights import read_safetensors, write_safetensors

if TYPE_CHECKING:
    from .tuner import Device

_FILE = "tensors.safetensors"


class OffloadedTensors:
    """Some of a model's tensors, out of the way until `restore`.

    The temporary file goes with the last of what needs it: this object, or the process. A deep copy has its own.

    Args:
        model: the model whose modules hold the tensors.
        tensors: parameters, buffers, or tensors outside of modules.
        device: 'cpu' keeps the contents in main memory; 'meta' writes them into a temporary file, so that they take
            no memory at all.

    Attributes:
        device: as given.
        num_bytes: what this frees on the devices where the tensors were.
    """

    def __init__(self, model: nn.Module, tensors: Sequence[Tensor], device: Device) -> None:
        self.device = device
        self._model = model
        self._tensors = [each for each in tensors if device == "meta" or each.device.type != "cpu"]
        self._devices = [each.device for each in self._tensors]
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in self._tensors}
        self.num_bytes = sum(storages.values())
        self._folder: Path | None = None
        if device == "meta":
            self._folder = self._make_folder()
            write_safetensors({str(index): each for index, each in enumerate(self._tensors)}, self._folder / _FILE)
        self._stand_ins = [_stand_in(each, device) for each in self._tensors]
        _exchange(model, self._tensors, self._stand_ins)
        for tensor in self._tensors:
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)

    def restore(self) -> None:
        """Give the tensors their contents back, on the devices where they were, and their places in the modules.

        Raises:
            InvalidCheckpoint: the temporary file is gone or damaged; nothing has changed.
        """
        contents: Sequence[Tensor] = self._stand_ins
        if self._folder is not None:
            stored = read_safetensors(self._folder / _FILE)
            contents = [stored[str(index)] for index in range(len(self._tensors))]
        # All of them before the first is given back: a device may have no room.
        moved = [content.detach().to(device) for content, device in zip(contents, self._devices, strict=True)]
        for tensor, content in zip(self._tensors, moved, strict=True):
            tensor.data = content
        self.abandon()

    def abandon(self) -> None:
        """Put the tensors into their places as they are, empty unless `restore` filled them, and forget the rest."""
        _exchange(self._model, self._stand_ins, self._tensors)
        self._tensors, self._stand_ins, self._devices = [], [], []
        if self._folder is not None:
            _remove(self._folder, os.getpid())
            self._folder = None

    def __deepcopy__(self, memo: dict[int, Any]) -> OffloadedTensors:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items() if name != "_folder"})
        twin._folder = None
        if self._folder is not None:
            twin._folder = twin._make_folder()
            shutil.copyfile(self._folder / _FILE, twin._folder / _FILE)
        return twin

    def __getstate__(self) -> NoReturn:
        raise UnsupportedConfig(
            "a model with offloaded tuners cannot be pickled: their weights are in a temporary file, or set aside; "
            "activate them first, or save the tuners with save_pretrained"
        )

    def _make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="swift-offloaded-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder


def _remove(folder: Path, owner: int) -> None:
    # A forked process has a copy of the object, and must leave the file to the one that made it.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _stand_in(tensor: Tensor, device: Device) -> Tensor:
    content = tensor.detach().to(device)
    return nn.Parameter(content, requires_grad=False) if isinstance(tensor, nn.Parameter) else content


def _exchange(model: nn.Module, present: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Put other tensors into the modules' places; a tied one has several."""
    new = {id(old): each for old, each in zip(present, wanted, strict=True)}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and id(tensor) in new:
                    held[name] = new[id(tensor)]  # type: ignore[assignment]  # a parameter for a parameter
