"""Weights written now, or copied now and written later while the model trains on.

Within `collect_writes`, `write_weights` copies the tensors to host memory and leaves the slow part, the disk, to
whoever collects: each write is a function without arguments that may be called in another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .weights import write_safetensors

if TYPE_CHECKING:
    from torch import Tensor

Write: TypeAlias = Callable[[], None]

_collected: ContextVar[list[Write] | None] = ContextVar("_collected", default=None)


@contextmanager
def collect_writes() -> Iterator[list[Write]]:
    """Collect what `write_weights` would write in this block; call each of it once, in any thread."""
    writes: list[Write] = []
    token = _collected.set(writes)
    try:
        yield writes
    finally:
        _collected.reset(token)


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors into a safetensors file; within `collect_writes`, only copy them.

    Args:
        tensors: also ones that are views, share memory, or change afterwards.
        path: of the file, which appears only when it is whole.
    """
    writes = _collected.get()
    if writes is None:
        write_safetensors(tensors, path)
    else:
        writes.append(partial(write_snapshot, take_snapshot(tensors), path))


def take_snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies in host memory; a tensor that stands under several names is copied for each."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def write_snapshot(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write contiguous host tensors that share no memory, without copying them; the file appears when it is whole.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    unfinished = path.with_name(path.name + ".tmp")
    try:
        save_file(dict(tensors), unfinished, metadata={"format": "pt"})
        unfinished.replace(path)
    except SafetensorError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
