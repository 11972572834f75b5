"""Chance that can be repeated: orders, samples and single draws that depend on a seed and on numbers only.

What is drawn in one piece comes from numpy's generator. A stream draws one number at a time, and resumes in between:
there the n-th draw is a function of the key and n, so that n is all there is to save.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import InvalidArgument

# What is drawn once has a third number, which keeps it apart from the epochs' orders, drawn from (seed, epoch).
SAMPLE: Final = (0, 1)
SPLIT: Final = (0, 2)
MIX: Final = (0, 3)
SHUFFLE_VALIDATION: Final = (0, 4)

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def order(num_rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return an epoch's order: a permutation of range(num_rows) that depends on these three numbers only.

    Raises:
        InvalidArgument: one of them is negative.
    """
    if num_rows < 0:
        raise InvalidArgument(f"num_rows is {num_rows!r}; expected at least 0")
    return generator(seed, epoch).permutation(num_rows).astype(np.int64, copy=False)


def take(rows: npt.NDArray[np.int64], count: int | None, seed: int, *, shuffle: bool) -> npt.NDArray[np.int64]:
    """Take a number of rows: all of them as often as they fit, and of the remainder a sample, in the old order.

    Args:
        rows: numbers of the rows, one at least.
        count: how many to take; None takes each once.
        seed: decides about the remainder.
        shuffle: whether the remainder is chosen at random; otherwise it is the first rows.
    """
    if count is None:
        return rows
    times, rest = divmod(count, len(rows))
    chosen = np.arange(rest)
    if shuffle:
        chosen = np.sort(generator(seed, *SAMPLE).permutation(len(rows))[:rest])
    return np.concatenate([np.tile(rows, times), rows[chosen]])


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return numpy's generator for a seed and what else keeps one use of it apart from the others.

    Raises:
        InvalidArgument: a number is negative.
    """
    if seed < 0 or min(stream) < 0:
        raise InvalidArgument(f"seed is {seed!r} and epoch {stream[0]!r}; expected both to be at least 0")
    return np.random.default_rng([seed, *stream])


def make_key(seed: int, *stream: int) -> int:
    """Return the key of a sequence of draws; different numbers give unrelated sequences.

    Raises:
        InvalidArgument: the seed is negative.
    """
    if seed < 0:
        raise InvalidArgument(f"seed is {seed!r}; expected at least 0")
    key = 0
    for number in (seed, *stream):
        key = draw(key ^ (number & _MASK), number >> 64)
    return key


def draw(key: int, index: int) -> int:
    """Return the draw number `index`: 64 bits, as good as independent of the other draws.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, section 5: SplitMix64
    after `index` + 1 steps.
    """
    bits = (key + (index + 1) * _GOLDEN) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def draw_below(bound: int, key: int, index: int) -> int:
    """Return a draw from range(bound)."""
    return (draw(key, index) * bound) >> 64


def draw_share(key: int, index: int) -> float:
    """Return a draw from [0, 1)."""
    return (draw(key, index) >> 11) * 2.0**-53
