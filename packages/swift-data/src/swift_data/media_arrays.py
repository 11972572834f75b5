"""Media arrays of several samples as those of one batch.

Two layouts are told apart by their shapes. An array (1, T, ...) has a place for each token of its sample. Any other has
its media, or parts of them, along the first axis, so that those of several samples follow each other there. Some models
stack them once more, for the whole row: (1, media, ...). Nothing in the shapes tells that from a single medium.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import Encoded
from swift_templates.media.token_arrays import BY_TOKEN, PLACES

from .errors import InvalidArgument

Arrays = dict[str, npt.NDArray[np.generic]]


def join_media(samples: Sequence[Encoded]) -> Arrays:
    """Return the arrays for samples that stand end to end; those of a single sample with media are as they were.

    Raises:
        InvalidArgument: of several samples with media, all arrays have 1 in front, so that they may be stacked for
            whole rows; or the shapes of some do not fit together.
    """
    joined: Arrays = {}
    owners: list[int] = []
    is_told = False
    for name in _names(samples):
        if name in BY_TOKEN:
            joined[name] = _join(name, _fill(name, samples, [len(sample) for sample in samples]), axis=1)
            continue
        having = [index for index, sample in enumerate(samples) if name in sample.media]
        owners += having
        arrays = [samples[index].media[name] for index in having]
        if name in PLACES:
            before = [sum(len(sample) for sample in samples[:index]) for index in having]
            arrays = [array + start for array, start in zip(arrays, before, strict=True)]
        is_told |= any(array.ndim == 0 or len(array) != 1 for array in arrays)
        joined[name] = _join(name, arrays, axis=0)
    if len(set(owners)) > 1 and not is_told:
        first, second = sorted(set(owners))[:2]
        raise InvalidArgument(
            f"samples {first} and {second} have media ({', '.join(sorted(joined))}) with 1 in front, which may be "
            "stacked for a whole row and cannot be joined; collate each alone"
        )
    return joined


def stack_media(samples: Sequence[Encoded]) -> Arrays:
    """Return the arrays for samples below each other, filled up on the right.

    Raises:
        InvalidArgument: the shapes of some do not fit together.
    """
    length = max(len(sample) for sample in samples)
    stacked: Arrays = {}
    for name in _names(samples):
        if name in BY_TOKEN:
            arrays = _fill(name, samples, [length] * len(samples))
        else:
            arrays = [sample.media[name] for sample in samples if name in sample.media]
        stacked[name] = _join(name, arrays, axis=0)
    return stacked


def _names(samples: Sequence[Encoded]) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in sample.media))


def _fill(name: str, samples: Sequence[Encoded], lengths: Sequence[int]) -> list[npt.NDArray[np.generic]]:
    """Return an array by token for each sample, with zeros where there is nothing."""
    like = next(sample.media[name] for sample in samples if name in sample.media)
    filled: list[npt.NDArray[np.generic]] = []
    for sample, length in zip(samples, lengths, strict=True):
        array = np.zeros((1, length, *like.shape[2:]), dtype=like.dtype)
        if name in sample.media and sample.media[name].shape[2:] == like.shape[2:]:
            array[:, : len(sample)] = sample.media[name]
        elif name in sample.media:
            raise _unfit(name, [like, sample.media[name]])
        filled.append(array)
    return filled


def _join(name: str, arrays: Sequence[npt.NDArray[np.generic]], *, axis: int) -> npt.NDArray[np.generic]:
    if len(arrays) == 1:
        return arrays[0]
    fits = all(
        array.ndim > axis
        and array.dtype == arrays[0].dtype
        and (*array.shape[:axis], *array.shape[axis + 1 :]) == (*arrays[0].shape[:axis], *arrays[0].shape[axis + 1 :])
        for array in arrays
    )
    if not fits:
        raise _unfit(name, arrays)
    return np.concatenate(arrays, axis=axis)


def _unfit(name: str, arrays: Sequence[npt.NDArray[np.generic]]) -> InvalidArgument:
    shapes = ", ".join(sorted({f"{array.shape} of {array.dtype}" for array in arrays}))
    return InvalidArgument(f"the samples' {name} have shapes that cannot be joined ({shapes}); collate each alone")
