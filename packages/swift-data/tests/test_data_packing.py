"""Packing and collating; expected arrays are written by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from swift_data.args import DataArgs
from swift_data.chat_row import ChatRow
from swift_data.errors import InvalidArgument, SampleTooLong
from swift_data.online_packing import OnlinePacker
from swift_data.packing import Batch, collate, collate_padded, pack
from swift_data.row_outcomes import FittedRow, Outcome
from swift_data.streaming import Share, open_stream
from swift_templates.args import PromptArgs
from swift_templates.encoded import Encoded
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder

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


def test_branches_of_a_row_stay_together() -> None:
    # Alone, 6 would go with 4 and 5 with 5; the rows are {6, 3}, {5, 2} and {4}.
    lengths, groups = [6, 5, 4, 3, 2], [0, 1, 2, 0, 1]
    assert pack(lengths, 10) == [[0, 2], [1, 3, 4]]
    assert pack(lengths, 10, groups=groups) == [[0, 3], [1, 4], [2]]
    assert pack(lengths, 13, groups=groups) == [[0, 2, 3], [1, 4]]
    # A row that is too long for a pack takes as few as it needs: 8 + 2 and 7 + 3.
    assert pack([8, 7, 2, 3, 1], 10, groups=[5, 5, 5, 5, 4]) == [[0, 2], [1, 3], [4]]


@settings(derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(1, CAPACITY), st.integers(0, 9)), max_size=100), st.integers(0, 2**32))
def test_grouped_packs_hold_everything_once_and_split_no_row_that_fits(items: list[tuple[int, int]], bits: int) -> None:
    lengths, groups = [length for length, _ in items], [group for _, group in items]
    alone = [bool(bits >> index % 32 & 1) for index in range(len(items))]
    packs = pack(lengths, CAPACITY, groups=groups, alone=alone)
    assert sorted(index for each in packs for index in each) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in each) <= CAPACITY for each in packs)
    assert all(len(each) == 1 for each in packs if any(alone[index] for index in each))
    for group in set(groups):
        members = {index for index, each in enumerate(groups) if each == group and not alone[index]}
        if sum(lengths[index] for index in members) <= CAPACITY:
            assert sum(bool(members & set(each)) for each in packs) == bool(members)


def test_groups_of_another_number_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 samples and 1 entries"):
        pack([1, 2], 10, groups=[0])


def with_media(length: int, **media: npt.ArrayLike) -> Encoded:
    """Return a sample of some tokens with media arrays."""
    made = sample(range(1, length + 1), [1.0] * length)
    made.media = {name: np.asarray(array) for name, array in media.items()}
    return made


def test_media_of_one_sample_are_passed_on_as_they_are() -> None:
    # As Idefics has them: one row, three pictures.
    pixels = np.arange(6.0).reshape(1, 3, 2)
    alone = with_media(2, pixel_values=pixels)
    assert collate([alone]).media["pixel_values"] is pixels
    assert collate([sample([1], [0]), alone, sample([1], [0])]).media["pixel_values"] is pixels
    assert collate([sample([1], [0])]).media == {}


def test_media_of_several_samples_follow_each_other() -> None:
    # As Qwen2-VL has them: patches of all pictures, and a line of the grid for each.
    first = with_media(3, pixel_values=np.full((4, 2), 1.0), image_grid_thw=[[1, 2, 2]])
    second = with_media(2, pixel_values=np.full((2, 2), 2.0), image_grid_thw=[[1, 1, 2]])
    for batch in (collate([first, sample([9], [0]), second]), collate_padded([first, sample([9], [0]), second], 0)):
        np.testing.assert_array_equal(batch.media["pixel_values"][:, 0], [1, 1, 1, 1, 2, 2])
        np.testing.assert_array_equal(batch.media["image_grid_thw"], [[1, 2, 2], [1, 1, 2]])


def test_numbers_by_token_go_with_their_tokens() -> None:
    samples = [with_media(3, pixels=np.zeros((2, 1)), token_type_ids=[[0, 1, 1]]), sample([9], [0])]
    samples += [with_media(2, pixels=np.zeros((1, 1)), token_type_ids=[[1, 0]])]
    np.testing.assert_array_equal(collate(samples).media["token_type_ids"], [[0, 1, 1, 0, 1, 0]])
    np.testing.assert_array_equal(collate(samples[:2]).media["token_type_ids"], [[0, 1, 1, 0]])
    np.testing.assert_array_equal(collate_padded(samples, 0).media["token_type_ids"], [[0, 1, 1], [0, 0, 0], [1, 0, 0]])


def test_media_that_may_be_stacked_for_a_row_are_not_joined() -> None:
    stacked = [with_media(2, pixel_values=np.full((1, 3, 2), float(number))) for number in (1, 2)]
    with pytest.raises(InvalidArgument, match=r"samples 0 and 2 have media.*collate each alone"):
        collate([stacked[0], sample([9], [0]), stacked[1]])
    # Below each other, they are what the model takes.
    assert collate_padded(stacked, 0).media["pixel_values"].shape == (2, 3, 2)
    uneven = [with_media(2, pixels=np.zeros((2, 3))), with_media(2, pixels=np.zeros((2, 4)))]
    for join in (collate, lambda samples: collate_padded(samples, 0)):
        with pytest.raises(InvalidArgument, match=r"pixels have shapes that cannot be joined.*\(2, 3\)"):
            join(uneven)


class Numbers:
    """A stream of numbers that knows where it is."""

    def __init__(self, count: int) -> None:
        self.count, self.at, self.num_read = count, 0, 0

    def __next__(self) -> int:
        if self.at == self.count:
            raise StopIteration
        self.at += 1
        self.num_read += 1
        return self.at - 1

    def state(self) -> dict[str, object]:
        return {"at": self.at}

    def restore(self, state: Mapping[str, object]) -> None:
        self.at = int(str(state["at"]))


def encode_number(number: int) -> Outcome:
    """Return two branches like GSM8K's rows; every hundredth fails, and tokens say which number it was."""
    if number % 100 == 99:
        return ValueError(f"{number} cannot be encoded")
    rng = np.random.default_rng(number)
    lengths = np.clip(rng.lognormal(5.2, 0.35, 1 + number % 2), 40, 600).astype(int)
    return [sample([number] * length, [1.0] * length) for length in lengths]


def packer(numbers: Numbers, **options: int) -> OnlinePacker[int]:
    """Return the packs of a stream of numbers."""
    settings = {"capacity": 4096, "window_packs": 8, **options}
    return OnlinePacker(numbers, lambda rows: list(map(encode_number, rows)), on_bad_row="skip", **settings)


def contents(packs: Iterable[Sequence[Encoded]]) -> list[list[list[int]]]:
    """Return the tokens of each sample of each pack."""
    return [[each.input_ids.tolist() for each in samples] for samples in packs]


def test_packs_of_a_stream_are_full_and_whole_and_keep_branches_together() -> None:
    packs = list(packer(Numbers(6000), window_packs=128))
    assert all(sum(map(len, each)) <= 4096 for each in packs)
    assert sum(map(len, (each for samples in packs for each in samples))) / (4096 * len(packs)) >= 0.99
    places: dict[int, set[int]] = {}
    lengths: dict[int, list[int]] = {}
    for place, samples in enumerate(packs):
        for each in samples:
            places.setdefault(int(each.input_ids[0]), set()).add(place)
            lengths.setdefault(int(each.input_ids[0]), []).append(len(each))
    assert sorted(places) == [number for number in range(6000) if number % 100 != 99]
    assert all(len(each) == 1 for each in places.values())
    for number, found in lengths.items():
        made = encode_number(number)
        assert not isinstance(made, (Exception, FittedRow)) and sorted(found) == sorted(map(len, made))


def test_packs_of_a_stream_go_on_where_a_state_was_taken() -> None:
    whole = contents(packer(Numbers(400)))
    for num_given in (0, 1, 7, 8, 9, 13, len(whole)):
        first = packer(Numbers(400))
        begun = contents(itertools.islice(first, num_given))
        saved = json.loads(json.dumps(first.state()))
        numbers = Numbers(400)
        second = packer(numbers)
        second.restore(saved)
        assert begun + contents(second) == whole, num_given
        assert second.counts.errors == {"ValueError": 4} and second.counts.num_rows == 400
        # What was done before the window is not read again.
        assert numbers.num_read == 400 - saved["rows"]["at"]
    assert saved["rows"]["at"] == 400


def test_packs_of_streamed_rows_go_on_where_a_state_was_taken(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps({"query": f"{number}?", "response": "so " * (number % 40)}) for number in range(1, 500)]
    file.write_text("\n".join(lines).replace('"response": ""', '"response": "no"'), encoding="utf-8")
    template = Template.from_folder(write_tiny_folder(tmp_path / "model"), PromptArgs(template="chatml"))

    def encode(rows: Sequence[ChatRow]) -> Sequence[Outcome]:
        return template.encode_many([row.conversation for row in rows])

    def packs(share: Share) -> OnlinePacker[ChatRow]:
        stream = open_stream([str(file)], DataArgs(shuffle_buffer_size=50, streaming=True), num_epochs=2, share=share)
        return OnlinePacker(stream, encode, capacity=1000, window_packs=4)

    # By workers in turn too, whose batches are no part of 64 rows.
    for worker, num_workers in ((0, 1), (0, 2), (1, 2)):
        share = Share(worker=worker, num_workers=num_workers, batch_size=7)
        first, second = packs(share), packs(share)
        given = [next(first) for _ in range(6)]
        saved = json.loads(json.dumps(first.state()))
        second.restore(saved)
        assert contents([*given, *second]) == contents(packs(share))
        with pytest.raises(InvalidArgument, match="is that of the reader"):
            packs(Share(rank=1, num_ranks=2)).restore(saved)


def test_a_state_of_packs_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="with the options it was saved with"):
        packer(Numbers(10)).restore(packer(Numbers(10), capacity=2048).state())


def test_a_window_ends_when_its_media_fill_the_memory() -> None:
    def encode(numbers: Sequence[int]) -> list[list[Encoded]]:
        return [[with_media(2, pixels=np.zeros((2, 1 << 15)))] for _ in numbers]

    numbers = Numbers(1000)
    # A sample has half a MiB, and rows are read 64 at a time.
    next(OnlinePacker(numbers, encode, capacity=1000, window_mib=40))
    assert numbers.at == 128


def test_a_row_that_cannot_be_encoded_stops_a_stream() -> None:
    packs = OnlinePacker(Numbers(200), lambda rows: list(map(encode_number, rows)), capacity=4096)
    with pytest.raises(ValueError, match="99 cannot be encoded"):
        next(packs)
    with pytest.raises(InvalidArgument, match="window_packs is 0"):
        packer(Numbers(1), window_packs=0)


def check(batch: Batch, **expected: list[list[float]]) -> None:
    """Compare a batch's arrays, and their dtypes with what Batch says."""
    dtypes = {"loss_scale": np.float32, "sequence_ids": np.int32}
    for name, values in expected.items():
        array = getattr(batch, name)
        assert array.dtype == dtypes.get(name, np.int64), name
        np.testing.assert_array_equal(array, values, err_msg=name)
