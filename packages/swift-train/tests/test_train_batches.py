"""The same samples make the same step, however many processes and forward passes share it."""

from __future__ import annotations

import numpy as np
import pytest
from swift_templates.encoded import Encoded
from swift_train.batches import GlobalBatchSampler, PackDataset, StepCollator, deal

SIZES = [30, 5, 17, 9, 40, 12, 3, 22, 8, 14]


def steps(processes: int, epoch: int = 0) -> list[list[list[int]]]:
    """For each optimizer step, what each process gets."""
    dealt = []
    for rank in range(processes):
        one = GlobalBatchSampler(SIZES, global_batch=4, num_processes=processes, rank=rank, seed=3)
        one.set_epoch(epoch)
        dealt.append(list(one))
    return [list(each) for each in zip(*dealt, strict=True)]


def samples_of(step: list[list[int]]) -> set[int]:
    return {index for process in step for index in process if index >= 0}


@pytest.mark.parametrize("processes", [2, 3, 4, 7])
def test_every_number_of_processes_makes_the_same_steps(processes: int) -> None:
    assert list(map(samples_of, steps(processes))) == list(map(samples_of, steps(1)))
    assert all(process for step in steps(processes) for process in step)


def test_an_epoch_visits_every_sample_once_and_the_next_in_another_order() -> None:
    first, second = steps(1, epoch=0), steps(1, epoch=1)
    assert sorted(index for step in first for process in step for index in process) == list(range(10))
    assert first != second


def test_processes_get_equally_many_tokens() -> None:
    # By hand: 40 | 30; 22 goes to 30, 17 to 40, 12 to 52.
    assert deal([30, 40, 17, 22, 12], [0, 1, 2, 3, 4], 2) == [[1, 2], [0, 3, 4]]


def test_a_process_without_a_sample_gets_a_filler() -> None:
    assert deal([5], [7], 3) == [[7], [~7], [~7]]


def sample(length: int, media: bool = False) -> Encoded:
    return Encoded(
        input_ids=np.arange(length) + 5,
        labels=np.arange(length) + 5,
        loss_scale=np.ones(length, dtype=np.float32),
        media={"pixel_values": np.zeros((1, 2), dtype=np.float32)} if media else {},
    )


def test_forward_passes_are_as_few_as_fit_and_none_is_larger() -> None:
    packs = [[sample(length)] for length in SIZES]
    shapes = [batch.input_ids.shape for batch in StepCollator(pad_token_id=None, max_tokens=50)(packs)]
    # 160 tokens need four passes of 50.
    assert sum(width for _, width in shapes) == 160 and len(shapes) == 4 and max(shapes)[1] <= 50


def test_a_pack_that_is_larger_than_the_limit_is_computed_whole() -> None:
    packs = [[sample(60), sample(20)], [sample(10)]]
    batches = StepCollator(pad_token_id=None, max_tokens=16)(packs)
    assert sorted(batch.input_ids.shape for batch in batches) == [(1, 10), (1, 80)]


def test_padded_passes_hold_samples_of_about_the_same_length() -> None:
    batches = StepCollator(pad_token_id=0, max_tokens=60)([[sample(length)] for length in SIZES])
    # By hand, longest first: 40 | 30 | 22 17 | 14 12 9 8 | 5 3 (each as many rows as fit into 60).
    assert [batch.input_ids.shape for batch in batches] == [(1, 40), (2, 30), (3, 17), (4, 9)]


@pytest.mark.parametrize("pad", [None, 0], ids=["joined", "padded"])
def test_samples_with_media_are_computed_alone(pad: int | None) -> None:
    packs = [[sample(4)], [sample(6, media=True)], [sample(3)], [sample(5, media=True)]]
    batches = StepCollator(pad_token_id=pad, max_tokens=100)(packs)
    assert sorted(batch.input_ids.size for batch in batches if batch.media) == [5, 6]
    assert sum((batch.labels != -100).sum() for batch in batches) == 4 + 6 + 3 + 5 - 4  # the first of each is not


def test_a_filler_carries_no_weight() -> None:
    one = Encoded(
        input_ids=np.array([5, 6, 7]), labels=np.array([-100, 6, 7]), loss_scale=np.array([0, 1, 2], dtype=np.float32)
    )
    packs = PackDataset([one], [[0]])
    (batch,) = StepCollator(pad_token_id=None, max_tokens=100)([packs[0], packs[~0]])
    assert batch.loss_scale.tolist() == [[0, 1, 2, 0, 0, 0]]
    assert batch.labels.tolist() == [[-100, 6, 7, -100, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2]]
