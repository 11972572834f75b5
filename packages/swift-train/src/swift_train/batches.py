"""Which samples go into which forward pass, on which process.

The order of an epoch is a permutation drawn from (seed, epoch) alone. It is cut into global batches, one per optimizer
step, and each global batch is dealt out to processes and forward passes; so the same samples make the same step however
many processes there are. Where a global batch does not fill every forward pass, the gap is filled with samples whose
weight is zero: they change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from swift_data.packing import Batch, collate, collate_padded
from swift_data.rows import order
from swift_templates.encoded import Encoded
from torch.utils.data import DataLoader, Dataset, Sampler

# A filler is written as ~index: sample `index`, with all its weights zero.
Index = int
Pack = list[Encoded]


class PackDataset(Dataset[Pack]):
    """Packs of samples, by index; ~index is the first sample of that pack with its weights set to zero."""

    def __init__(self, samples: Sequence[Encoded], packs: Sequence[Sequence[int]]) -> None:
        self.samples = samples
        self.packs = packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: Index) -> Pack:
        if index >= 0:
            return [self.samples[each] for each in self.packs[index]]
        return [_without_weight(self.samples[self.packs[~index][0]])]


class GlobalBatchSampler(Sampler[list[Index]]):
    """The forward passes of one process, in order.

    Args:
        num_packs: how many packs there are.
        per_device: packs in one forward pass.
        accumulation: forward passes of one process in one optimizer step.
        num_processes: processes that share a global batch.
        rank: this process.
        seed: of the order; None keeps the packs in their own order.
    """

    def __init__(
        self, num_packs: int, *, per_device: int, accumulation: int, num_processes: int, rank: int, seed: int | None
    ) -> None:
        self.num_packs = num_packs
        self.per_device = per_device
        self.accumulation = accumulation
        self.num_processes = num_processes
        self.rank = rank
        self.seed = seed
        self.epoch = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the packs."""
        return -(-self.num_packs // (self.per_device * self.accumulation * self.num_processes))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation

    def __iter__(self) -> Iterator[list[Index]]:
        indices = np.arange(self.num_packs) if self.seed is None else order(self.num_packs, self.seed, self.epoch)
        size = self.per_device * self.accumulation * self.num_processes
        for start in range(0, self.num_packs, size):
            chosen = [int(each) for each in indices[start : start + size]]
            chosen += [~chosen[0]] * (size - len(chosen))
            for turn in range(self.accumulation):
                first = (turn * self.num_processes + self.rank) * self.per_device
                yield chosen[first : first + self.per_device]


class EpochDataLoader(DataLoader[Pack]):
    """A DataLoader that tells its batch sampler which epoch begins."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on, as the training loop expects of a loader."""
        if isinstance(self.batch_sampler, GlobalBatchSampler):
            self.batch_sampler.set_epoch(epoch)


def collate_packs(packs: Sequence[Pack], *, pad_token_id: int | None) -> Batch:
    """Make one batch of some packs: end to end without padding, or a padded row for each sample.

    Args:
        packs: what the sampler chose for one forward pass.
        pad_token_id: None joins all samples end to end; a token id pads each to the longest instead, for models whose
        attention
            cannot keep joined samples apart.
    """
    samples = [sample for pack in packs for sample in pack]
    return collate(samples) if pad_token_id is None else collate_padded(samples, pad_token_id)


def _without_weight(sample: Encoded) -> Encoded:
    return replace(sample, labels=np.full_like(sample.labels, -100), loss_scale=np.zeros_like(sample.loss_scale))
