"""Packing: whole samples end to end, nothing padded and nothing cut, and samples to the arrays that a model takes.

A pack is only right if the model keeps its samples apart: `position_ids` restart at each sample, there is no attention
mask, and `sequence_ids` say which sample each token belongs to.

T tokens, B samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import IGNORED, Encoded

from .errors import InvalidArgument, SampleTooLong
from .media_arrays import join_media, stack_media


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
        media: further arguments of the model, such as pixel_values, by name.
    """

    input_ids: npt.NDArray[np.int64]
    position_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    loss_scale: npt.NDArray[np.float32]
    sequence_ids: npt.NDArray[np.int32]
    attention_mask: npt.NDArray[np.int64] | None = None
    media: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)


def pack(
    lengths: Sequence[int] | npt.NDArray[np.integer],
    capacity: int,
    *,
    groups: Sequence[int] | npt.NDArray[np.integer] | None = None,
    alone: Sequence[bool] | npt.NDArray[np.bool_] | None = None,
) -> list[list[int]]:
    """Distribute samples over as few packs as best-fit decreasing finds.

    The longest comes first, and each goes where it leaves the least room; where it fits nowhere, a new pack is opened.
    O(n log n): room is looked up by bisection. Samples of one group, such as the branches of a dialogue, which share a
    prefix, are placed as one where they fit into a pack together, and else in as few packs as they need.

    Args:
        lengths: tokens of each sample.
        capacity: most tokens of a pack.
        groups: the group of each sample, such as the row it came from; by default each is one of its own.
        alone: which samples have a pack of their own, such as those with media that a model cannot tell apart.

    Returns:
        The indices in each pack, ascending; packs in the order of their first index. Each index is there exactly once.

    Raises:
        SampleTooLong: a sample does not fit into a pack of its own.
        InvalidArgument: a length or the capacity is less than 1, or there are not as many groups as lengths.
    """
    sizes: list[int] = np.asarray(lengths, dtype=np.int64).tolist()
    _check_lengths(sizes, capacity)
    for given in (groups, alone):
        if given is not None and len(given) != len(sizes):
            raise InvalidArgument(f"there are {len(sizes)} samples and {len(given)} entries for them; expected as many")
    if groups is None and alone is None:
        return sorted(sorted(each) for each in _place(range(len(sizes)), sizes, capacity))
    lonely = [] if alone is None else np.flatnonzero(alone).tolist()
    others = range(len(sizes)) if alone is None else np.flatnonzero(~np.asarray(alone, dtype=np.bool_)).tolist()
    members: dict[int, list[int]] = {}
    for index in others:
        members.setdefault(index if groups is None else int(groups[index]), []).append(index)
    bundles = [bundle for each in members.values() for bundle in _place(each, sizes, capacity)]
    placed = _place(range(len(bundles)), [sum(sizes[index] for index in bundle) for bundle in bundles], capacity)
    packs = [[index for bundle in each for index in bundles[bundle]] for each in placed]
    return sorted(sorted(each) for each in [*packs, *([index] for index in lonely)])


def collate(samples: Sequence[Encoded]) -> Batch:
    """Join samples end to end.

    The first token of a sample is never trained: what stands before it belongs to another sample. Media are joined in
    the order of their samples.

    Raises:
        InvalidArgument: there is no sample, one is empty, its arrays differ in length, or several have media whose
            arrays cannot be joined; such a sample can be collated alone.
    """
    _check_samples(samples)
    return Batch(
        input_ids=np.concatenate([sample.input_ids for sample in samples], dtype=np.int64)[None],
        position_ids=np.concatenate([np.arange(len(sample)) for sample in samples], dtype=np.int64)[None],
        labels=np.concatenate([_without_first(sample.labels, IGNORED) for sample in samples], dtype=np.int64)[None],
        loss_scale=np.concatenate([_without_first(sample.loss_scale, 0) for sample in samples], dtype=np.float32)[None],
        sequence_ids=np.repeat(np.arange(len(samples), dtype=np.int32), [len(sample) for sample in samples])[None],
        media=join_media(samples),
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
        media=stack_media(samples),
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


def _place(items: Sequence[int], sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Distribute some items, whose sizes are found by their numbers."""
    if len(items) < 2:
        return [list(items)] if items else []
    packs: list[list[int]] = []
    # Rooms that some pack has left, ascending and each once, and the packs that have them.
    rooms: list[int] = []
    packs_with: dict[int, list[list[int]]] = {}
    for index in sorted(items, key=lambda index: -sizes[index]):
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
    return packs


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


def _without_first(values: npt.NDArray[np.generic], nothing: float) -> npt.NDArray[np.generic]:
    changed = values.copy()
    changed[0] = nothing
    return changed
