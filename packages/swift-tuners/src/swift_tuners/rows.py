"""What a user says about the rows of a batch: which tuners act on each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import UnsupportedConfig

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from .tuner import RowChoice

# What a language model's call surely has a row of for each row of the batch.
_INPUTS = ("input_ids", "inputs_embeds")


def read_rows(names: Sequence[str | Sequence[str] | None]) -> list[frozenset[str]]:
    """Return the names of the tuners of each row.

    Args:
        names: for each row a name, several, or None.

    Raises:
        UnsupportedConfig: it is something else, such as one name, whose letters would be taken for rows.
    """
    if not isinstance(names, str) and isinstance(names, Iterable):
        rows = [[each] if isinstance(each, str) else () if each is None else each for each in names]
        if all(isinstance(row, Iterable) and all(isinstance(each, str) for each in row) for row in rows):
            return [frozenset(row) for row in rows]
    raise UnsupportedConfig(
        f"rows are {names!r:.80}; expected a list with, for each row of the batch, a tuner's name, a list of names, or "
        "None"
    )


def watch_batches(
    model: nn.Module, choice: RowChoice | None, *, instead_of: RemovableHandle | None
) -> RemovableHandle | None:
    """Have each call of the host checked to bring so many rows, or several of each, as beam search does.

    A layer need not split its input, nor see rows in it, where all rows agree, so that it cannot tell.

    Args:
        model: the host.
        choice: the rows for which tuners were chosen; None checks nothing.
        instead_of: what an earlier call returned; ended here.

    Returns:
        What ends it.
    """
    if instead_of is not None:
        instead_of.remove()
    if choice is None:
        return None
    return model.register_forward_pre_hook(partial(_check_batch, len(choice)), with_kwargs=True)


def _check_batch(num_rows: int, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from torch import Tensor

    named = [kwargs[name] for name in _INPUTS if name in kwargs]
    given = next((each for each in (*named, *args, *kwargs.values()) if isinstance(each, Tensor) and each.dim()), None)
    if given is not None and (not num_rows or len(given) % num_rows):
        raise UnsupportedConfig(
            f"tuners were chosen for {num_rows} rows, but the batch has {len(given)}, of shape {tuple(given.shape)}; "
            "name the tuners of each row"
        )
