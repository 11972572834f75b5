"""Dropout's masks for next to nothing: windows of bits that were drawn once.

Drawing a random number for each element costs more than everything else that a low-rank branch does. Here a long ring
of ones and zeros is drawn once for each probability, and a mask is what stands in the ring from a random place on. The
bits of one mask are independent up to the ring's length; masks of different seeds are different windows. A mask is
never kept: whoever has the seed finds the window again, whole or in pieces of rows.

T tokens, I input features.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

# A prime, so that a ring that ends within a mask goes on in other columns. 10 MB of float32 with the overlap.
RING = 2_097_143
# Elements of one piece; the ring's first so many stand behind its end again, so that no piece is torn. 2 MB of float32
# stay in a core's second-level cache between the multiplication by the mask and the matrix product that follows.
PIECE = 1 << 19

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def draw_seed() -> int:
    """Return a new seed from torch's default generator, which a checkpoint restores."""
    return int(torch.randint(1 << 62, ()))


def derive_seed(seed: int, index: int) -> int:
    """Return the seed of the `index`-th mask of several that belong together."""
    return _mix((seed + (index + 1) * _GOLDEN) & _WORD)


def keep_pieces(
    seed: int, rows: slice, num_features: int, p: float, *, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Walk rows of the mask that belongs to a seed: 1 where an element is kept, 0 where it is dropped.

    The mask isn't scaled; 1 / (1 - p) goes where it costs nothing.

    Args:
        seed: of the mask.
        rows: which of its rows, start and stop given.
        num_features: its columns.
        p: share of elements that are dropped; the ring holds exactly this share, to the nearest element.
        dtype: of the mask, so that no cast comes before the multiplication.
        device: of the mask.

    Yields:
        A slice of at least one row, counted from `rows.start`, and its mask (rows, I): a view of the ring, not to be
        written to.

    Raises:
        ValueError: a single row is longer than a piece.
    """
    if num_features > PIECE:
        raise ValueError(f"num_features is {num_features}; at most {PIECE} are possible")
    ring = _ring(p, dtype, device)
    start = _mix(seed & _WORD) % RING
    step = PIECE // num_features
    for first in range(rows.start, rows.stop, step):
        size = min(step, rows.stop - first)
        place = (start + first * num_features) % RING
        mask_TI = ring[place : place + size * num_features].view(size, num_features)
        yield slice(first - rows.start, first - rows.start + size), mask_TI


def keep_whole(
    seed: int, num_rows: int, num_features: int, p: float, *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the mask of `keep_pieces` in one piece, copied out of the ring: for GPUs, which want few and large steps.

    Args:
        seed: of the mask.
        num_rows: its rows.
        num_features: its columns.
        p: as `keep_pieces`.
        dtype: of the mask.
        device: of the mask.
    """
    ring = _ring(p, dtype, device)
    start, size = _mix(seed & _WORD) % RING, num_rows * num_features
    turns, rest = divmod(start + size, RING)
    if not turns:
        return ring[start:rest].view(num_rows, num_features)
    parts = [ring[start:RING], *[ring[:RING]] * (turns - 1), ring[:rest]]
    return torch.cat(parts).view(num_rows, num_features)


@functools.lru_cache(maxsize=4)
def _ring(p: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not 0.0 <= p < 1.0:
        raise ValueError(f"p is {p!r}; expected at least 0 and less than 1")
    order = torch.randperm(RING, generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    bits = (order >= round(p * RING)).to(device=device, dtype=dtype)
    return torch.cat([bits, bits[:PIECE]])


def _mix(word: int) -> int:
    """Source: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, figure 16 (mix64variant13)."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
