"""Packing and collating; expected arrays are written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swift_data.errors import InvalidArgument, SampleTooLong
from swift_data.packing import Batch, collate, collate_padded, pack
from swift_templates.encoded import Encoded

CAPACITY = 100


def sample(input_ids: Sequence[int], weights: Sequence[float]) -> Encoded:
    """Return a sample whose tokens are trained where they have a weight."""
    return Encoded(
        input_ids=np.array(input_ids, dtype=np.int64),
        labels=np.array([i if w > 0 else -100 for i, w in zip(input_ids, weights, strict=True)], dtype=np.int64),
        loss_scale=np.array(weights, dtype=np.float32),
    )


@settings(derandomize=True, database=None)
@given(st.lists(st.integers(1, CAPACITY), max_size=200))
def test_every_sample_is_in_one_pack_and_no_pack_is_too_full(lengths: list[int]) -> None:
    packs = pack(lengths, CAPACITY)
    assert sorted(index for each in packs for index in each) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in each) for each in packs]
    assert all(0 < total <= CAPACITY for total in sums)
    # Best fit opens a pack only where no other has room, so two packs never fit into one.
    assert all(first + second > CAPACITY for i, first in enumerate(sums) for second in sums[:i])
    assert packs == pack(lengths, CAPACITY)


@settings(derandomize=True, database=None)
@given(st.lists(st.integers(1, CAPACITY), max_size=60))
def test_packs_are_those_of_best_fit_decreasing_done_slowly(lengths: list[int]) -> None:
    # The textbook's way: look at every pack, take the one with the least room.
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda place: rooms[place])] -= length
        else:
            rooms.append(CAPACITY - length)
    packs = pack(lengths, CAPACITY)
    assert sorted(CAPACITY - sum(lengths[index] for index in each) for each in packs) == sorted(rooms)


def test_packs_of_a_small_case() -> None:
    # 7 alone with 3; 6 with 4; 5 with 2, and nothing is left for 3 more.
    assert pack([3, 7, 5, 4, 6, 2], 10) == [[0, 1], [2, 5], [3, 4]]
    assert pack(np.array([3, 7, 5, 4, 6, 2]), 10) == [[0, 1], [2, 5], [3, 4]]
    assert pack([], 10) == []
    assert pack([10, 10], 10) == [[0], [1]]


def test_packs_of_lengths_like_gsm8k_are_99_percent_full() -> None:
    # Chat rows of GSM8K's training set under SmolLM2's tokenizer: 85 to 558 tokens, mean 205, standard deviation 68.
    # The log-normal with these moments has mu 5.27, sigma 0.32; seeded, so the figure is one number.
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.27, 0.32, 7473), 85, 558).astype(int)
    packs = pack(lengths, 4096)
    assert lengths.sum() / (len(packs) * 4096) >= 0.99


def test_a_sample_longer_than_a_pack_is_an_error() -> None:
    with pytest.raises(SampleTooLong) as caught:
        pack([5, 11, 3], 10)
    assert "sample 1 has 11 tokens, more than packing_length 10" in str(caught.value)


@pytest.mark.parametrize(
    ("lengths", "capacity", "words"),
    [([1, 0], 10, "sample 1 has 0 tokens"), ([-1], 10, "sample 0 has -1"), ([1], 0, "packing_length is 0")],
)
def test_lengths_and_capacities_below_one_are_refused(lengths: list[int], capacity: int, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        pack(lengths, capacity)
    assert words in str(caught.value)


def test_samples_are_joined_without_padding() -> None:
    batch = collate([sample([1, 2, 3], [0, 0, 1]), sample([4, 5], [0, 2])])
    check(
        batch,
        input_ids=[[1, 2, 3, 4, 5]],
        position_ids=[[0, 1, 2, 0, 1]],
        labels=[[-100, -100, 3, -100, 5]],
        loss_scale=[[0, 0, 1, 0, 2]],
        sequence_ids=[[0, 0, 0, 1, 1]],
    )
    assert batch.attention_mask is None


def test_samples_are_padded_on_the_right() -> None:
    batch = collate_padded([sample([1, 2, 3], [0, 0, 1]), sample([4, 5], [0, 2])], 9)
    check(
        batch,
        input_ids=[[1, 2, 3], [4, 5, 9]],
        position_ids=[[0, 1, 2], [0, 1, 0]],
        labels=[[-100, -100, 3], [-100, 5, -100]],
        loss_scale=[[0, 0, 1], [0, 2, 0]],
        sequence_ids=[[0, 0, 0], [1, 1, -1]],
    )
    assert batch.attention_mask is not None
    assert batch.attention_mask.dtype == np.int64
    np.testing.assert_array_equal(batch.attention_mask, [[1, 1, 1], [1, 1, 0]])


def test_a_samples_first_token_is_not_predicted_from_the_sample_before() -> None:
    samples = [sample([1, 2], [1, 1]), sample([4, 5], [1, 1])]
    for batch in (collate(samples), collate_padded(samples, 0)):
        np.testing.assert_array_equal(batch.labels.reshape(-1), [-100, 2, -100, 5])
        np.testing.assert_array_equal(batch.loss_scale.reshape(-1), [0, 1, 0, 1])
    # What it was made of is as before.
    np.testing.assert_array_equal(samples[1].labels, [4, 5])


def test_packed_and_padded_batches_train_the_same_tokens_with_the_same_weights() -> None:
    rng = np.random.default_rng(0)
    samples = [sample(rng.integers(1, 99, n).tolist(), rng.choice([0.0, 0.5, 1.0], n).tolist()) for n in (5, 1, 8, 3)]
    packed, padded = collate(samples), collate_padded(samples, 0)
    for name in ("input_ids", "position_ids", "labels", "loss_scale", "sequence_ids"):
        np.testing.assert_array_equal(getattr(padded, name)[padded.sequence_ids >= 0], getattr(packed, name)[0])


@pytest.mark.parametrize("join", [collate, lambda samples: collate_padded(samples, 0)], ids=["packed", "padded"])
def test_samples_that_cannot_be_joined_are_refused(join: object) -> None:
    assert callable(join)
    with pytest.raises(InvalidArgument, match="no samples"):
        join([])
    with pytest.raises(InvalidArgument, match="sample 1 has 0 input_ids"):
        join([sample([1], [0]), sample([], [])])
    uneven = sample([1, 2], [0, 1])
    uneven.labels = uneven.labels[:1]
    with pytest.raises(InvalidArgument, match="2 input_ids, 1 labels and 2 loss_scale"):
        join([uneven])
    picture = sample([1, 2], [0, 1])
    picture.media["pixel_values"] = np.zeros((1, 2))
    with pytest.raises(InvalidArgument, match="pixel_values"):
        join([picture])


def check(batch: Batch, **expected: list[list[float]]) -> None:
    """Compare a batch's arrays, and their dtypes with what Batch says."""
    dtypes = {"loss_scale": np.float32, "sequence_ids": np.int32}
    for name, values in expected.items():
        array = getattr(batch, name)
        assert array.dtype == dtypes.get(name, np.int64), name
        np.testing.assert_array_equal(array, values, err_msg=name)
