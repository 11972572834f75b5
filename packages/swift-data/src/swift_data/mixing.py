"""Mixing datasets by weight: which of them gives the next row, and when the mixture ends.

The choice number n depends on the seed and n only, so a mixture is the same whether its rows are all loaded or
streamed.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import InvalidArgument
from .sampling import MIX, draw_share, make_key

if TYPE_CHECKING:
    from .args import StoppingStrategy


class Chooser:
    """Chooses datasets by weight.

    Args:
        weights: one for each dataset, above 0; only their ratios matter.
        num_datasets: how many there are.
        seed: decides about all choices.
        epoch: keeps one pass over the mixture apart from others.

    Raises:
        InvalidArgument: the weights do not fit the datasets.
    """

    def __init__(self, weights: Sequence[float], num_datasets: int, seed: int, epoch: int = 0) -> None:
        check_weights(weights, num_datasets)
        self._ends = list(itertools.accumulate(weights))
        self._key = make_key(seed, *MIX, epoch)

    def choose(self, number: int) -> int:
        """Return the dataset of the choice with this number, from 0."""
        share = draw_share(self._key, number) * self._ends[-1]
        return min(bisect.bisect_right(self._ends, share), len(self._ends) - 1)


def check_weights(weights: Sequence[float], num_datasets: int) -> None:
    """Raise InvalidArgument unless there is a weight above 0 for each dataset."""
    if len(weights) != num_datasets:
        raise InvalidArgument(
            f"interleave_prob has {len(weights)} weights for {num_datasets} datasets; expected one for each, in their "
            f"order"
        )
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise InvalidArgument(
                f"interleave_prob holds {weight!r}; expected weights above 0, or leave the dataset out"
            )


def mix(
    lengths: Sequence[int], weights: Sequence[float], stopping_strategy: StoppingStrategy, seed: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Mix datasets of these lengths, each in its own order.

    Args:
        lengths: rows of each dataset, one at least.
        weights: how often each is chosen.
        stopping_strategy: 'first_exhausted' ends with the last row of the dataset that ends first; 'all_exhausted' when
            each has ended once, until which those that have start over.
        seed: decides which dataset is chosen when.

    Returns:
        For each row of the mixture, int32 (N,) the number of its dataset and int64 (N,) of its row in it.

    Raises:
        InvalidArgument: the weights do not fit the datasets.
    """
    chooser = Chooser(weights, len(lengths), seed)
    datasets, rows = [], []
    positions = [0] * len(lengths)
    exhausted = [False] * len(lengths)
    ends = any if stopping_strategy == "first_exhausted" else all
    for number in itertools.count():
        dataset = chooser.choose(number)
        datasets.append(dataset)
        rows.append(positions[dataset])
        positions[dataset] += 1
        if positions[dataset] == lengths[dataset]:
            positions[dataset], exhausted[dataset] = 0, True
            if ends(exhausted):
                break
    return np.array(datasets, dtype=np.int32), np.array(rows, dtype=np.int64)
