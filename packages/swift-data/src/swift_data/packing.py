"""Packing: whole samples end to end, nothing padded and nothing cut, and samples to the arrays that a model takes.

A pack is only right if the model keeps its samples apart: `position_ids` restart at each sample, there is no attention
mask, and `sequence_ids` say which sample each token belongs to.

T tokens, B samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import IGNORED, Encoded

from .errors import InvalidArgument, SampleTooLong


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one forward pass takes. Packed, all arrays are (1, T); padded, they are (B, T).

    Attributes:
        input_ids: int64; padding holds the pad token.
        position_ids: int64, counting from 0 in each sample; padding holds 0.
        labels: int64, the token at the same place where it is trained, -100 elsewhere.
        loss_scale: float32, the weight of the token at the same place; 0 where it is not trained.
        sequence_ids: int32, which sample a token belongs to; padding holds -1.
        attention_mask: int64, 1 for tokens and 0 for padding; None in a packed batch.
    """

    input_ids: npt.NDArray[np.int64]
    position_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    loss_scale: npt.NDArray[np.float32]
    sequence_ids: npt.NDArray[np.int32]
    attention_mask: npt.NDArray[np.int64] | None = None


def pack(lengths: Sequence[int] | npt.NDArray[np.integer], capacity: int) -> list[list[int]]:
    """Distribute samples over as few packs as best-fit decreasing finds.

    The longest sample comes first, and each goes where it leaves the least room; where it fits nowhere, a new pack is
    opened. O(n log n): room is looked up by bisection.

    Args:
        lengths: tokens of each sample.
        capacity: most tokens of a pack.

    Returns:
        The indices in each pack, ascending; packs in the order of their first index. Each index is there exactly once.

    Raises:
        SampleTooLong: a sample does not fit into a pack of its own.
        InvalidArgument: a length or the capacity is less than 1.
    """
    sizes = [int(length) for length in lengths]
    _check_lengths(sizes, capacity)
    packs: list[list[int]] = []
    # Rooms that some pack has left, ascending and each once, and the packs that have them.
    rooms: list[int] = []
    packs_with: dict[int, list[list[int]]] = {}
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        place = bisect_left(rooms, sizes[index])
        if place == len(rooms):
            room = capacity
            packs.append(chosen := [])
        else:
            room = rooms[place]
            chosen = packs_with[room].pop()
            if not packs_with[room]:
                del packs_with[room], rooms[place]
        chosen.append(index)
        left = room - sizes[index]
        if left in packs_with:
            packs_with[left].append(chosen)
        elif left > 0:
            packs_with[left] = [chosen]
            insort(rooms, left)
    return sorted(sorted(each) for each in packs)


def collate(samples: Sequence[Encoded]) -> Batch:
    """Join samples end to end.

    The first token of a sample is never trained: what stands before it belongs to another sample.

    Raises:
        InvalidArgument: there is no sample, one is empty, its arrays differ in length, or it has media.
    """
    _check_samples(samples)
    return Batch(
        input_ids=np.concatenate([sample.input_ids for sample in samples], dtype=np.int64)[None],
        position_ids=np.concatenate([np.arange(len(sample)) for sample in samples], dtype=np.int64)[None],
        labels=np.concatenate([_without_first(sample.labels, IGNORED) for sample in samples], dtype=np.int64)[None],
        loss_scale=np.concatenate([_without_first(sample.loss_scale, 0) for sample in samples], dtype=np.float32)[None],
        sequence_ids=np.repeat(np.arange(len(samples), dtype=np.int32), [len(sample) for sample in samples])[None],
    )


def collate_padded(samples: Sequence[Encoded], pad_token_id: int) -> Batch:
    """Put samples below each other, filled up on the right; for models that cannot keep packed samples apart.

    Raises:
        InvalidArgument: see `collate`.
    """
    _check_samples(samples)
    shape = (len(samples), max(len(sample) for sample in samples))
    batch = Batch(
        input_ids=np.full(shape, pad_token_id, dtype=np.int64),
        position_ids=np.zeros(shape, dtype=np.int64),
        labels=np.full(shape, IGNORED, dtype=np.int64),
        loss_scale=np.zeros(shape, dtype=np.float32),
        sequence_ids=np.full(shape, -1, dtype=np.int32),
        attention_mask=np.zeros(shape, dtype=np.int64),
    )
    assert batch.attention_mask is not None, "it was just made"
    for row, sample in enumerate(samples):
        length = len(sample)
        batch.input_ids[row, :length] = sample.input_ids
        batch.position_ids[row, :length] = np.arange(length)
        batch.labels[row, :length] = _without_first(sample.labels, IGNORED)
        batch.loss_scale[row, :length] = _without_first(sample.loss_scale, 0)
        batch.sequence_ids[row, :length] = row
        batch.attention_mask[row, :length] = 1
    return batch


def _check_lengths(sizes: Sequence[int], capacity: int) -> None:
    if capacity < 1:
        raise InvalidArgument(f"packing_length is {capacity!r}; expected 1 token or more")
    if not sizes:
        return
    if (longest := max(sizes)) > capacity:
        raise SampleTooLong(
            f"sample {sizes.index(longest)} has {longest} tokens, more than packing_length {capacity}; "
            "raise packing_length, or lower max_length so that it is truncated or left out"
        )
    if (shortest := min(sizes)) < 1:
        raise InvalidArgument(f"sample {sizes.index(shortest)} has {shortest} tokens; expected 1 or more")


def _check_samples(samples: Sequence[Encoded]) -> None:
    if not samples:
        raise InvalidArgument("there are no samples to make a batch of; expected one or more")
    for index, sample in enumerate(samples):
        if not len(sample) == len(sample.labels) == len(sample.loss_scale) > 0:
            raise InvalidArgument(
                f"sample {index} has {len(sample)} input_ids, {len(sample.labels)} labels and "
                f"{len(sample.loss_scale)} loss_scale; expected equally many, and one or more"
            )
        if sample.media:
            raise InvalidArgument(f"sample {index} has media ({', '.join(sample.media)}); only text is supported yet")


def _without_first(values: npt.NDArray[np.generic], nothing: float) -> npt.NDArray[np.generic]:
    changed = values.copy()
    changed[0] = nothing
    return changed
