"""What the forward and the backward pass of a low-rank call have to agree on, and the memory they work in.

T tokens, I input features, O output features, R ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .keep_masks import derive_seed, keep_pieces, keep_whole
from .matmul_dtype import matmul_dtype

# Rows that are cast at a time where products are computed in another type than x's, for each thread. Measured on one
# core of a Xeon, 2048 rows of 576 to 576: 9.9 ms at 256, 9.8 at 512, 10.7 at 1024 and above; 14 ms without casting.
CAST_ROWS = 512


@dataclass(frozen=True)
class LoraLayer:
    """One linear layer with its low-rank branch.

    Attributes:
        weight_OI: base weight; differentiated if it requires a gradient.
        bias_O: base bias, or None.
        a_RI: what projects down; may be of another type than x, usually float32 beside bfloat16.
        b_OR: what projects up.
        scaling: factor of the branch, s.
    """

    weight_OI: Tensor
    bias_O: Tensor | None
    a_RI: Tensor
    b_OR: Tensor
    scaling: float


@dataclass(frozen=True)
class Plan:
    """What forward and backward must agree on; scalings include dropout's 1 / (1 - p), `fused` asks for Triton."""

    scalings: tuple[float, ...]
    ranks: tuple[int, ...]
    p: float
    seeds: tuple[int, ...]
    compute: torch.dtype
    fused: bool

    @property
    def joint(self) -> bool:
        """Whether Triton adds the branches of all layers to dx at once: they see the same mask, or none."""
        return self.fused and (len(self.seeds) == 1 or not self.p)

    def columns(self) -> list[slice]:
        """Return where each layer's ranks stand among those of all."""
        ends = itertools.accumulate(self.ranks)
        return [slice(end - rank, end) for end, rank in zip(ends, self.ranks, strict=True)]

    def masks(
        self, rows: slice, num_features: int, device: torch.device
    ) -> Iterator[tuple[slice, slice, Tensor | None]]:
        """Walk what sees one mask: rows counted from `rows.start`, columns of the ranks, and the mask or None.

        But on a CPU the rows are all rows, and a mask comes in one piece.
        """
        everything = slice(0, sum(self.ranks))
        whole = slice(0, rows.stop - rows.start)
        if not self.p:
            yield whole, everything, None
            return
        for seed, columns in zip(self.seeds, [everything] if len(self.seeds) == 1 else self.columns(), strict=True):
            if self.fused or device.type != "cpu":
                yield (
                    whole,
                    columns,
                    keep_whole(seed, whole.stop, num_features, self.p, dtype=self.compute, device=device),
                )
                continue
            for piece, keep_TI in keep_pieces(seed, rows, num_features, self.p, dtype=self.compute, device=device):
                yield piece, columns, keep_TI

    def chunks(self, x_TI: Tensor) -> list[slice]:
        """Return the rows to compute at a time: all, where nothing is cast."""
        num_rows = len(x_TI)
        size = max(1, num_rows) if x_TI.dtype == self.compute else CAST_ROWS * torch.get_num_threads()
        return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def plan_call(x: Tensor, layers: Sequence[LoraLayer], *, p: float, seed: int, one_mask: bool, fused: bool) -> Plan:
    """Decide how a call is computed."""
    return Plan(
        scalings=tuple(each.scaling / (1.0 - p) for each in layers),
        ranks=tuple(len(each.a_RI) for each in layers),
        p=p,
        seeds=(seed,) if one_mask else tuple(derive_seed(seed, index) for index in range(len(layers))),
        compute=matmul_dtype(x.dtype, x.device),
        fused=fused,
    )


class Scratch:
    """Memory that chunks and pieces use one after the other, since fresh memory costs more than what is done in it."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return memory of a shape, what it held before included."""
        size = math.prod(shape)
        if name not in self.buffers or self.buffers[name].numel() < size:
            self.buffers[name] = self.like.new_empty(size)
        return self.buffers[name][:size].view(*shape)

    def cast(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor in the type in which products are computed."""
        return tensor if tensor.dtype == self.like.dtype else self.take(name, tensor.shape).copy_(tensor)

    def seen(self, x_rows: Tensor, keep: Tensor | None) -> Tensor:
        """Return what the branch sees of x."""
        return x_rows if keep is None else torch.mul(x_rows, keep, out=self.take("piece", keep.shape))

    def target(self, name: str, result: Tensor) -> Tensor:
        """Return where to compute a result: in its own memory, if its type is that of the products."""
        return result if result.dtype == self.like.dtype else self.take(name, result.shape)

    def deliver(self, computed: Tensor, result: Tensor) -> None:
        """Cast what was computed in `target`, unless the target was the result itself."""
        if computed.dtype != result.dtype:
            result.copy_(computed)
