"""Which samples make an optimizer step, on which process, and in which forward passes.

The order of an epoch is a permutation drawn from (seed, epoch) alone. It is cut into global batches, one per optimizer
step; so the same samples make the same step however many processes there are. How a global batch is computed is another
question, and changes nothing but the time: its packs are dealt out so that processes have equally many tokens, and each
process joins what it has into as few forward passes as its memory allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from swift_data.encoded_rows import EncodedRows
from swift_data.packing import Batch, collate, collate_padded, pack
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

    @cached_property
    def sizes(self) -> list[int]:
        """Tokens of each pack."""
        encoded = self.samples
        lengths = np.asarray(encoded.lengths if isinstance(encoded, EncodedRows) else list(map(len, encoded)))
        counts = np.fromiter(map(len, self.packs), dtype=np.int64, count=len(self.packs))
        indices = np.fromiter(chain.from_iterable(self.packs), dtype=np.int64, count=int(counts.sum()))
        return [int(each) for each in np.add.reduceat(lengths[indices], np.cumsum(counts) - counts)]

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: Index) -> Pack:
        if index >= 0:
            return [self.samples[each] for each in self.packs[index]]
        return [_without_weight(self.samples[self.packs[~index][0]])]


class GlobalBatchSampler(Sampler[list[Index]]):
    """The packs of one process for each optimizer step, in order.

    Args:
        sizes: tokens of each pack.
        global_batch: packs in one optimizer step, of all processes together.
        num_processes: processes that share a global batch.
        rank: this process.
        seed: of the order; None keeps the packs in their own order.
    """

    def __init__(
        self, sizes: Sequence[int], *, global_batch: int, num_processes: int, rank: int, seed: int | None
    ) -> None:
        self.sizes = sizes
        self.global_batch = global_batch
        self.num_processes = num_processes
        self.rank = rank
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the optimizer steps in one pass over the packs."""
        return -(-len(self.sizes) // self.global_batch)

    def __iter__(self) -> Iterator[list[Index]]:
        num_packs = len(self.sizes)
        indices = np.arange(num_packs) if self.seed is None else order(num_packs, self.seed, self.epoch)
        for start in range(0, num_packs, self.global_batch):
            chosen = [int(each) for each in indices[start : start + self.global_batch]]
            yield deal([int(self.sizes[each]) for each in chosen], chosen, self.num_processes)[self.rank]


def deal(sizes: Sequence[int], indices: Sequence[Index], num_processes: int) -> list[list[Index]]:
    """Deal packs out so that processes have about equally many tokens; one that gets none has a filler.

    The largest goes first, each to the process that has least.
    """
    if num_processes == 1:
        return [list(indices)]
    dealt: list[list[Index]] = [[] for _ in range(num_processes)]
    tokens = [0] * num_processes
    for place in sorted(range(len(indices)), key=lambda place: -sizes[place]):
        least = tokens.index(min(tokens))
        dealt[least].append(indices[place])
        tokens[least] += sizes[place]
    return [each or [~indices[0]] for each in dealt]


class EpochDataLoader(DataLoader[Pack]):
    """A DataLoader that tells its batch sampler which epoch begins."""

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on, as the training loop expects of a loader."""
        if isinstance(self.batch_sampler, GlobalBatchSampler):
            self.batch_sampler.set_epoch(epoch)


@dataclass(frozen=True, kw_only=True)
class StepCollator:
    """Makes the forward passes of one optimizer step on one process.

    Attributes:
        pad_token_id: None joins samples end to end; a token id pads each to the longest of its pass instead, for
            models that cannot keep joined samples apart.
        max_tokens: most tokens of a forward pass, padding included; a larger pack has one of its own.
    """

    pad_token_id: int | None
    max_tokens: int

    def __call__(self, packs: Sequence[Pack]) -> list[Batch]:
        """Return one batch per forward pass. The samples of a pack stay together."""
        if self.pad_token_id is not None:
            return [
                collate_padded([sample for index in each for sample in packs[index]], self.pad_token_id)
                for each in self._pad_alike(packs)
            ]
        sizes = [sum(map(len, each)) for each in packs]
        media = [any(sample.media for sample in each) for each in packs]
        passes = pack(sizes, max(self.max_tokens, *sizes), alone=media)
        return [collate([sample for index in each for sample in packs[index]]) for each in passes]

    def _pad_alike(self, packs: Sequence[Pack]) -> list[list[int]]:
        """Put packs of about the same length into one forward pass, so that little is padded."""
        passes: list[list[int]] = []
        num_rows = longest = 0
        for index in sorted(range(len(packs)), key=lambda index: -max(map(len, packs[index]))):
            num_rows += len(packs[index])
            has_media = any(sample.media for sample in packs[index])
            if not passes or num_rows * longest > self.max_tokens or has_media:
                passes.append([])
                num_rows, longest = len(packs[index]), max(map(len, packs[index]))
            passes[-1].append(index)
            if has_media:
                # Nothing joins it.
                longest = self.max_tokens + 1
        return passes


def _without_weight(sample: Encoded) -> Encoded:
    return replace(sample, labels=np.full_like(sample.labels, -100), loss_scale=np.zeros_like(sample.loss_scale))
