"""The same samples make the same step, however many processes share it."""

from __future__ import annotations

import numpy as np
import pytest
from swift_templates.encoded import Encoded
from swift_train.batches import GlobalBatchSampler, PackDataset, collate_packs


def sampler(rank: int = 0, processes: int = 1, per_device: int = 1, accumulation: int = 4) -> GlobalBatchSampler:
    return GlobalBatchSampler(
        10, per_device=per_device, accumulation=accumulation, num_processes=processes, rank=rank, seed=3
    )


def steps(processes: int, per_device: int, accumulation: int, epoch: int = 0) -> list[set[int]]:
    """The samples of each optimizer step, over all processes, without fillers."""
    dealt = []
    for rank in range(processes):
        one = sampler(rank, processes, per_device, accumulation)
        one.set_epoch(epoch)
        dealt.append(list(one))
    return [
        {i for rank in dealt for batch in rank[start : start + accumulation] for i in batch if i >= 0}
        for start in range(0, len(dealt[0]), accumulation)
    ]


@pytest.mark.parametrize(
    ("processes", "per_device", "accumulation"), [(2, 1, 2), (4, 1, 1), (1, 4, 1), (1, 2, 2), (2, 2, 1)]
)
def test_every_split_of_a_global_batch_holds_the_same_samples(
    processes: int, per_device: int, accumulation: int
) -> None:
    assert steps(processes, per_device, accumulation) == steps(1, 1, 4)


def test_an_epoch_visits_every_sample_once_and_the_next_in_another_order() -> None:
    first, second = steps(1, 1, 4, epoch=0), steps(1, 1, 4, epoch=1)
    assert sorted(i for step in first for i in step) == list(range(10))
    assert first != second


def test_processes_make_equally_many_forward_passes() -> None:
    # 10 samples in global batches of 4: three steps, the last of them filled up.
    ranks = [list(sampler(rank, processes=2, accumulation=2)) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [6, 6]
    assert [batch for rank in ranks for batch in rank if batch[0] < 0] != []


def test_a_filler_carries_no_weight() -> None:
    sample = Encoded(
        input_ids=np.array([5, 6, 7]), labels=np.array([-100, 6, 7]), loss_scale=np.array([0, 1, 2], dtype=np.float32)
    )
    packs = PackDataset([sample], [[0]])
    batch = collate_packs([packs[0], packs[~0]], pad_token_id=None)
    assert batch.loss_scale.tolist() == [[0, 1, 2, 0, 0, 0]]
    assert batch.labels.tolist() == [[-100, 6, 7, -100, -100, -100]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2]]
