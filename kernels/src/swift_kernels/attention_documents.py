"""Where the documents of a packed row lie: which keys each query may see, in plain integers.

A document is a run of queries and a run of keys; it may also see the keys of one shared prefix, as if they stood before
its own. So the branches of a dialogue, the two answers of a preference pair or a group of rollouts are documents that
name the same prefix, and that prefix is computed once.

T queries, S keys of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor


class Scoring(NamedTuple):
    """How queries score the keys that they see: scale, then a soft cap, over keys behind them and inside a window."""

    scale: float
    causal: bool = True
    window: int | None = None
    soft_cap: float | None = None


class Document(NamedTuple):
    """One document: half-open ranges of rows. Its keys are the prefix, then its own."""

    query_start: int
    query_end: int
    key_start: int
    key_end: int
    prefix_start: int = 0
    prefix_end: int = 0

    @property
    def num_keys(self) -> int:
        """Number of keys that it sees, with the prefix."""
        return self.prefix_end - self.prefix_start + self.key_end - self.key_start

    @property
    def has_prefix(self) -> bool:
        """Whether it sees more than its own keys."""
        return self.prefix_start < self.prefix_end

    @property
    def shift(self) -> int:
        """Position of its first query among its keys: the last query stands at the last key."""
        return self.num_keys - (self.query_end - self.query_start)


@dataclass(frozen=True)
class Documents:
    """The documents of one packed row, in the order of their queries.

    Rows that belong to no document get an output of zero. Runs of queries don't overlap, nor do runs of own keys; a
    prefix may be anywhere outside a document's own keys, for instance another document's keys.
    """

    query_starts: tuple[int, ...]
    query_ends: tuple[int, ...]
    key_starts: tuple[int, ...]
    key_ends: tuple[int, ...]
    prefix_starts: tuple[int, ...] = ()
    prefix_ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the runs are runs, in order, and don't overlap."""
        lengths = [len(self.query_starts), len(self.query_ends), len(self.key_starts), len(self.key_ends)]
        if len(set(lengths)) != 1:
            raise ValueError(f"{lengths} query starts, query ends, key starts, key ends; expected as many of each")
        if (len(self.prefix_starts), len(self.prefix_ends)) not in {(0, 0), (lengths[0], lengths[0])}:
            raise ValueError(
                f"{len(self.prefix_starts)} prefix starts and {len(self.prefix_ends)} prefix ends for {lengths[0]} "
                "documents; expected none, or one for each document (start = end where it has no prefix)"
            )
        _check_runs("queries", self.query_starts, self.query_ends)
        _check_runs("keys", self.key_starts, self.key_ends)
        for document in self:
            if not 0 <= document.prefix_start <= document.prefix_end:
                raise ValueError(f"{document}: expected 0 <= prefix_start <= prefix_end")
            overlap = min(document.prefix_end, document.key_end) - max(document.prefix_start, document.key_start)
            if overlap > 0:
                raise ValueError(f"{document}: {overlap} keys are both prefix and its own; expected disjoint ranges")

    @classmethod
    def whole(cls, length: int) -> Documents:
        """Take the row as one document of `length` tokens."""
        return cls((0,), (length,), (0,), (length,))

    @classmethod
    def from_position_ids(cls, position_ids_T: Tensor) -> Documents:
        """Begin a document wherever the position isn't the one before it plus one.

        Args:
            position_ids_T: integers (T,). Read once from their device.

        Raises:
            ValueError: they have more than one dimension; give one row of text positions.
        """
        if position_ids_T.ndim != 1:
            raise ValueError(
                f"position_ids of shape {tuple(position_ids_T.shape)}; expected (T,): one packed row of text positions"
            )
        length = len(position_ids_T)
        if length == 0:
            return cls((), (), (), ())
        starts = ((position_ids_T[1:] - position_ids_T[:-1]) != 1).nonzero().flatten() + 1
        return cls.from_cu_seqlens([0, *starts.tolist(), length])

    @classmethod
    def from_cu_seqlens(
        cls, cu_seqlens_q: Sequence[int] | Tensor, cu_seqlens_k: Sequence[int] | Tensor | None = None
    ) -> Documents:
        """Take boundaries as flash-attention's variable-length functions do: (documents + 1) ascending integers.

        Args:
            cu_seqlens_q: where each document's queries begin, then where the last ends.
            cu_seqlens_k: the same for keys; the queries' by default.
        """
        queries = _to_ints(cu_seqlens_q)
        keys = queries if cu_seqlens_k is None else _to_ints(cu_seqlens_k)
        return cls(tuple(queries[:-1]), tuple(queries[1:]), tuple(keys[:-1]), tuple(keys[1:]))

    @classmethod
    def from_branches(cls, groups: Sequence[tuple[int, Sequence[int]]]) -> Documents:
        """Lay out groups of branches: a prefix, then what follows it in each branch, then the next group.

        The prefix is a document of its own; each branch sees it and itself. In a branch positions go on where the
        prefix ends.

        Args:
            groups: (tokens of the prefix, tokens of each branch without it).
        """
        documents: list[Document] = []
        end = 0
        for prefix, branches in groups:
            begin, end = end, end + prefix
            documents.append(Document(begin, end, begin, end))
            for length in branches:
                documents.append(Document(end, end + length, end, end + length, begin, begin + prefix))
                end += length
        columns = tuple(zip(*documents, strict=True)) or ((),) * 6
        return cls(*columns)

    def __iter__(self) -> Iterator[Document]:
        if self.prefix_starts:
            columns = (self.query_starts, self.query_ends, self.key_starts, self.key_ends)
            return map(Document, *columns, self.prefix_starts, self.prefix_ends)
        return map(Document, self.query_starts, self.query_ends, self.key_starts, self.key_ends)

    def __len__(self) -> int:
        return len(self.query_starts)

    @property
    def num_queries(self) -> int:
        """Rows of queries that the documents reach to."""
        return max(self.query_ends, default=0)

    @property
    def num_keys(self) -> int:
        """Rows of keys that the documents reach to."""
        return max((*self.key_ends, *self.prefix_ends), default=0)

    def cover_queries(self, num_rows: int) -> bool:
        """Whether each of `num_rows` queries sees a key, so that nothing of the output stays unwritten."""
        covered = sum(self.query_ends) - sum(self.query_starts)  # disjoint runs: so many rows, no gap
        return covered == num_rows and all(document.shift >= 0 and document.num_keys > 0 for document in self)


def _to_ints(cu_seqlens: Sequence[int] | Tensor) -> list[int]:
    values: list[int] = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else list(cu_seqlens)
    if not values:
        raise ValueError("cu_seqlens is empty; expected 0 and the end of each document, [0] for none")
    return values


def _check_runs(what: str, starts: tuple[int, ...], ends: tuple[int, ...]) -> None:
    bounds = [(start, end) for start, end in zip(starts, ends, strict=True) if start != end]
    if any(not 0 <= start <= end for start, end in bounds) or any(
        before[1] > after[0] for before, after in pairwise(bounds)
    ):
        raise ValueError(f"{what} of documents at {bounds[:8]}; expected 0 <= start <= end, ascending, not overlapping")
