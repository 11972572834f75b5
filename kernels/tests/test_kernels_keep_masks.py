"""Dropout's masks are sound and found again."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from swift_kernels.keep_masks import PIECE, derive_seed, draw_seed, keep_pieces
from torch import Tensor

CPU = torch.device("cpu")


def keep_mask(seed: int, num_rows: int, num_features: int, p: float, *, first: int = 0) -> Tensor:
    rows = slice(first, first + num_rows)
    pieces = list(keep_pieces(seed, rows, num_features, p, dtype=torch.float32, device=CPU))
    assert [piece.start for piece, _ in pieces] == [0, *itertools.accumulate(len(keep) for _, keep in pieces)][:-1]
    return torch.cat([keep for _, keep in pieces])


@pytest.mark.parametrize("p", [0.05, 0.5])
@pytest.mark.parametrize("shape", [(2048, 576), (3000, 1536)], ids=str)
def test_the_share_of_dropped_elements_is_p_within_binomial_bounds(p: float, shape: tuple[int, int]) -> None:
    for seed in range(5):
        keep = keep_mask(seed, *shape, p)
        assert set(keep.unique().tolist()) == {0.0, 1.0}
        deviation = math.sqrt(p * (1 - p) / keep.numel())
        assert abs(float((1 - keep).double().mean()) - p) < 5 * deviation
        # And so in each column and each row: the largest of a few thousand normal values is below 5.5.
        for axis in (0, 1):
            spread = math.sqrt(p * (1 - p) / shape[axis])
            assert float(((1 - keep).mean(axis) - p).abs().max()) < 5.5 * spread + 2 / shape[axis]


def test_no_share_drops_nothing() -> None:
    assert keep_mask(1, 10, 20, 0.0).min() == 1.0


@pytest.mark.parametrize("lag", [1, 2, 8, 576, 577, 1536, 12345], ids=str)
def test_elements_are_uncorrelated(lag: int) -> None:
    bits = keep_mask(11, 2000, 576, 0.5).flatten().double() - 0.5
    correlation = float((bits[:-lag] * bits[lag:]).mean()) / 0.25
    assert abs(correlation) < 5 / math.sqrt(len(bits))


def test_masks_of_other_seeds_are_uncorrelated_with_it() -> None:
    seeds = [0, 1, 2, 1 << 40, (1 << 62) - 1, *(derive_seed(0, index) for index in range(4))]
    masks = [keep_mask(seed, 1000, 576, 0.5).flatten().double() - 0.5 for seed in seeds]
    for one, other in itertools.combinations(masks, 2):
        assert abs(float((one * other).mean()) / 0.25) < 5 / math.sqrt(len(one))


def test_each_element_is_dropped_in_its_share_of_steps() -> None:
    total = torch.zeros(16, 64)
    steps = 4000
    for seed in range(steps):
        total += 1 - keep_mask(seed, 16, 64, 0.1)
    # 1,024 elements, each binomial: mean 400, deviation 19.
    assert float((total - 0.1 * steps).abs().max()) < 5 * math.sqrt(steps * 0.1 * 0.9)


def test_rows_are_the_same_whichever_rows_are_asked_for() -> None:
    whole = keep_mask(5, 4000, 700, 0.3)
    assert torch.equal(keep_mask(5, 1234, 700, 0.3, first=2001), whole[2001:3235])


def test_a_mask_longer_than_the_ring_goes_on_in_other_columns() -> None:
    keep = keep_mask(5, 5000, 576, 0.5)  # 2.9 million elements, of which 2.1 are drawn
    assert not any(torch.equal(keep[row], keep[0]) for row in range(1, 5000))


def test_a_mask_costs_no_memory() -> None:
    pieces = keep_pieces(3, slice(0, 5), 10, 0.1, dtype=torch.float32, device=CPU)
    other = keep_pieces(4, slice(0, 5), 10, 0.1, dtype=torch.float32, device=CPU)
    assert next(pieces)[1].untyped_storage().data_ptr() == next(other)[1].untyped_storage().data_ptr()


def test_seeds_follow_torchs_generator() -> None:
    torch.manual_seed(3)
    first = [draw_seed(), draw_seed()]
    torch.manual_seed(3)
    assert [draw_seed(), draw_seed()] == first and first[0] != first[1]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"p is 1\.0; expected at least 0"):
        keep_mask(0, 1, 1, 1.0)
    with pytest.raises(ValueError, match=f"num_features is {PIECE + 1}; at most {PIECE}"):
        keep_mask(0, 1, PIECE + 1, 0.1)
