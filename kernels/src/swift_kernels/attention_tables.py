"""What each program of the Triton kernels works on: tables of integers, made once for a row's documents.

Forward, and for the gradient of queries, a program has one block of a document's queries. For the gradients of keys it
has one block of keys, and visits each document that sees them: their own, and those that name them as prefix. So no sum
needs atomic operations, and a run and its repetition are equal bit for bit.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .attention_documents import Document, Documents

QUERY_FIELDS = 8
VISIT_FIELDS = 4


class KeyTable(NamedTuple):
    """Blocks of keys, int32 (blocks, 4): first row, number of rows, first visit, end of visits.

    A visit, int32 (visits, 4): the document's first query, the query after its last, the first query's place among the
    document's keys, and the place there of the block's first key.
    """

    blocks: Tensor
    visits: Tensor


@functools.lru_cache(maxsize=64)  # layers, and the steps of one accumulation, share their documents
def query_table(documents: Documents, causal: bool, block_rows: int, device: torch.device) -> Tensor:
    """Cut the queries that see a key into blocks, the longest walks first.

    Args:
        documents: of the row.
        causal: leaves out queries before their document's first key.
        block_rows: most queries of a block.
        device: where the table is needed.

    Returns:
        int32 (blocks, 8): first query, number of queries, the first query's place among the document's keys, start and
        length of the prefix, start and number of own keys, 0.
    """
    rows: list[tuple[int, ...]] = []
    for document in documents:
        begin = max(0, -document.shift) if causal else 0
        if document.num_keys == 0:
            continue
        keys = (
            document.prefix_start,
            document.prefix_end - document.prefix_start,
            document.key_start,
            document.key_end - document.key_start,
        )
        for start in range(document.query_start + begin, document.query_end, block_rows):
            place = document.shift + start - document.query_start
            rows.append((start, min(block_rows, document.query_end - start), place, *keys, 0))
    rows.sort(key=lambda row: -row[2])
    return torch.tensor(rows, dtype=torch.int32).view(-1, QUERY_FIELDS).to(device)


@functools.lru_cache(maxsize=64)  # as above
def key_table(documents: Documents, block_rows: int, device: torch.device) -> KeyTable:
    """Cut the keys into blocks that the same documents see, and list those documents.

    Args:
        documents: of the row.
        block_rows: most keys of a block.
        device: where the table is needed.
    """
    seen = [(document, start, end, place) for document in documents for start, end, place in _seen_runs(document)]
    cuts = sorted({cut for _, start, end, _ in seen for cut in (start, end)})
    starts = [start for low, high in pairwise(cuts) for start in range(low, high, block_rows)]
    limits = [min(start + block_rows, cuts[bisect_left(cuts, start + 1)]) for start in starts]
    visits: list[list[tuple[int, ...]]] = [[] for _ in starts]
    for document, start, end, place in seen:
        for index in range(bisect_left(starts, start), bisect_left(starts, end)):
            column = place + starts[index] - start
            visits[index].append((document.query_start, document.query_end, document.shift, column))
    blocks: list[tuple[int, ...]] = []
    flat: list[tuple[int, ...]] = []
    for start, limit, entries in zip(starts, limits, visits, strict=True):
        if entries:  # keys between documents that nobody sees are left out
            blocks.append((start, limit - start, len(flat), len(flat) + len(entries)))
            flat.extend(entries)
    return KeyTable(
        *(torch.tensor(each, dtype=torch.int32).view(-1, VISIT_FIELDS).to(device) for each in (blocks, flat))
    )


def _seen_runs(document: Document) -> list[tuple[int, int, int]]:
    """Return start, end and first place of the runs of keys that a document with queries sees."""
    if document.query_start == document.query_end:
        return []
    length = document.prefix_end - document.prefix_start
    runs = [(document.prefix_start, document.prefix_end, 0), (document.key_start, document.key_end, length)]
    return [run for run in runs if run[0] < run[1]]
