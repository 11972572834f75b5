"""A sample brought to a length: cut on one side, split into several, or left out.

No cut goes through what belongs together (`Encoded.unbroken`): a medium's tokens, a call and its result. What is
left of a sample is left out where some of its media are cut off, since their arrays would not fit any more, or where
one is cut off before it, since it was asked about that. Parts of a split sample stand alone: one with all media keeps
them, one without any needs none. What is cut off is gone: the caller counts (`num_lost`), and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from .encoded import Encoded
from .media.token_arrays import BY_TOKEN, PLACES


def truncate(encoded: Encoded, length: int, strategy: Literal["delete", "left", "right", "split"]) -> list[Encoded]:
    """Bring a sample that is longer than `length` to that length.

    Args:
        encoded: the sample.
        length: most tokens that a sample may have, at least 1.
        strategy: 'left' and 'right' take tokens away there, 'split' makes several samples of one, 'delete' takes the
            sample away.

    Returns:
        What is left: samples of which something is trained. What they lack is not reported here; see `num_lost`.
    """
    if strategy == "delete":
        return []
    total = len(encoded)
    if strategy == "left":
        bounds = [(_behind(encoded, total - length), total)]
    elif strategy == "right":
        bounds = [(0, _before(encoded, length))]
    else:
        bounds = list(_split(encoded, length))
    alone = strategy == "split"
    pieces = [_piece(encoded, start, end, alone=alone) for start, end in bounds if start < end]
    return [each for each in pieces if each is not None and each.num_trained]


def num_lost(encoded: Encoded, pieces: Sequence[Encoded]) -> int:
    """Return how many tokens were trained in a sample and are not in what was left of it.

    Args:
        encoded: the sample before.
        pieces: what `truncate` made of it.
    """
    return encoded.num_trained - sum(each.num_trained for each in pieces)


def _split(encoded: Encoded, length: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(encoded):
        end = min(start + length, len(encoded))
        if end < len(encoded):
            whole = _before(encoded, end)
            # What belongs together and is longer than a sample is left out.
            end = whole if whole > start else _behind(encoded, end)
        if end - start <= length:
            yield start, end
        start = end


def _before(encoded: Encoded, cut: int) -> int:
    """Return the nearest place at or before a cut that goes through nothing which belongs together."""
    for start, end in reversed(encoded.unbroken):
        if start < cut < end:
            cut = start
    return cut


def _behind(encoded: Encoded, cut: int) -> int:
    """Return the nearest place at or after a cut that goes through nothing which belongs together."""
    for start, end in encoded.unbroken:
        if start < cut < end:
            cut = end
    return cut


def _piece(encoded: Encoded, start: int, end: int, *, alone: bool) -> Encoded | None:
    places = encoded.unbroken if encoded.media_places is None else encoded.media_places
    kept_places = _inside(places, start, end)
    kept, media = slice(start, end), encoded.media
    if (encoded.media or encoded.media_places) and len(kept_places) < len(places):
        needs_others = not alone and any(left < start for left, _ in places)
        if kept_places or needs_others:
            return None
        media = {}
    media = {name: array[:, kept] if name in BY_TOKEN else array for name, array in media.items()}
    media = {name: array - start if name in PLACES else array for name, array in media.items()}
    return Encoded(
        encoded.input_ids[kept],
        encoded.labels[kept],
        encoded.loss_scale[kept],
        media,
        _inside(encoded.unbroken, start, end),
        None if encoded.media_places is None else kept_places,
    )


def _inside(places: Sequence[tuple[int, int]], start: int, end: int) -> tuple[tuple[int, int], ...]:
    return tuple((left - start, right - start) for left, right in places if start <= left and right <= end)
