"""Weights at rest: safetensors files, and whether they fit the model that they are loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CheckpointMismatch, InvalidCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

_NUM_SHOWN = 3


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file into CPU memory.

    Raises:
        InvalidCheckpoint: the file is missing, truncated, or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        pickled = sorted(each.name for each in path.parent.glob("*") if each.suffix in {".bin", ".pt", ".pth", ".pkl"})
        hint = (
            f"; {pickled[0]!r} beside it is a pickle, which can run code: convert it to safetensors" if pickled else ""
        )
        raise InvalidCheckpoint(f"{str(path)!r} does not exist; expected a safetensors file{hint}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InvalidCheckpoint(
            f"{str(path)!r} ({path.stat().st_size} bytes) is truncated or no safetensors file: {error}; copy it again"
        ) from error


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors, also ones that are views or share memory, into one file; it appears only when it is whole."""
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory; a copy of each costs little for a tuner's weights.
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    unfinished = path.with_name(path.name + ".tmp")
    try:
        save_file(copies, unfinished, metadata={"format": "pt"})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_state(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, origin: str, base: str) -> None:
    """Check that a checkpoint's tensors are those that a model expects.

    Args:
        given: the checkpoint's tensors.
        expected: the model's own, by the same names.
        origin: what the tensors come from, for the message, such as a path.
        base: the model that the checkpoint was made for, and the model at hand, for the message.

    Raises:
        CheckpointMismatch: names, shapes, or kinds of numbers differ.
        InvalidCheckpoint: a tensor holds values that are not finite.
    """
    differing = [
        f"{name} is {tuple(given[name].shape)} there and {tuple(tensor.shape)} here"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if differing:
        raise CheckpointMismatch(f"{origin} does not fit this model: {_shorten(differing)}; {base}")
    missing = [name for name in expected if name not in given]
    surplus = [name for name in given if name not in expected]
    if missing or surplus:
        problems = []
        if missing:
            problems.append(f"it lacks {_shorten(missing)}")
        if surplus:
            problems.append(f"the model has no place for {_shorten(surplus)}")
        raise CheckpointMismatch(f"{origin} does not fit this model: {', and '.join(problems)}; {base}")
    foreign = [
        f"{name} is {given[name].dtype} there and {tensor.dtype} here"
        for name, tensor in expected.items()
        if _kind(given[name]) != _kind(tensor)
    ]
    if foreign:
        raise CheckpointMismatch(f"{origin} does not fit this model: {_shorten(foreign)}; {base}")
    broken = [name for name in expected if not _is_finite(given[name])]
    if broken:
        raise InvalidCheckpoint(
            f"{origin} holds values that are not finite, in {_shorten(broken)}: its training diverged, or it is "
            "damaged; take another checkpoint"
        )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # The types of 8 bits cannot be asked.
    wide = tensor.float() if tensor.element_size() == 1 else tensor
    return bool(wide.isfinite().all())


def _shorten(items: list[str]) -> str:
    more = f" and {len(items) - _NUM_SHOWN} more" if len(items) > _NUM_SHOWN else ""
    return ", ".join(items[:_NUM_SHOWN]) + more
