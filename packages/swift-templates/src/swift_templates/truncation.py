"""A sample brought to a length: cut on one side, split into several, or left out.

No cut goes through what belongs together (`Encoded.unbroken`): a medium's tokens, a call and its result. A sample that
would lose a medium is left out as a whole, since its arrays would not fit any more. What is cut off is gone: the caller
counts, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from .encoded import Encoded
from .media.token_arrays import BY_TOKEN


def truncate(encoded: Encoded, length: int, strategy: Literal["delete", "left", "right", "split"]) -> list[Encoded]:
    """Bring a sample that is longer than `length` to that length.

    Args:
        encoded: the sample.
        length: most tokens that a sample may have, at least 1.
        strategy: 'left' and 'right' take tokens away there, 'split' makes several samples of one, 'delete' takes the
            sample away.

    Returns:
        What is left: samples of which something is trained.
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
    pieces = [_piece(encoded, start, end) for start, end in bounds if start < end]
    return [each for each in pieces if each is not None and each.num_trained]


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


def _piece(encoded: Encoded, start: int, end: int) -> Encoded | None:
    inside = [(left - start, right - start) for left, right in encoded.unbroken if start <= left and right <= end]
    if encoded.media and len(inside) < len(encoded.unbroken):
        return None
    kept = slice(start, end)
    media = {name: array[:, kept] if name in BY_TOKEN else array for name, array in encoded.media.items()}
    return Encoded(encoded.input_ids[kept], encoded.labels[kept], encoded.loss_scale[kept], media, tuple(inside))
