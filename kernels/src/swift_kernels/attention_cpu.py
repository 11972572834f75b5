"""Attention over documents in tiles of torch operations: what runs on CPU, and on devices that have no Triton.

A tile is a block of one document's queries against a chunk of the keys that they see, all heads at once: batched
products and a few element-wise passes over one small buffer that stays in cache. Keys ahead of a causal query are
mostly never touched, keys are not copied for grouped heads, and gradients go straight into their place. Probabilities
are powers of two: torch's `exp` is up to 200 times slower where its result is a subnormal, its `exp2` is not.

Measured on one thread of a two-core Xeon without AMX, 4,096 tokens in documents of 300 on average, 9 heads, 3 key-value
heads, size 64, forward and backward: float32 90 ms, torch's attention document by document 97, padded 209, with a mask
of the pack 1,087. bfloat16 is computed in float32, which is more exact and takes 104 ms; torch's takes 209, 412, 1,896.

T queries, S keys of the row, b queries of a block, N keys of a document, n of a chunk, H heads, G key-value heads, R =
H / G heads that share one, K head size, V value size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import attention_flash
from .attention_documents import Document, Documents, Scoring

# Queries of a block. Documents of 300: 74 ms at 48, 67 at 64, 65 at 100, 66 at 128, 72 at 150; documents of 1,024: 176,
# 167, 170, 182, 196 (products and element-wise passes alone; machine as above).
BLOCK_ROWS = 104
# Keys of a chunk, and floats of a tile: long documents and many heads are walked in pieces.
CHUNK_KEYS = 512
TILE_FLOATS = 1 << 20

LOG2_E = math.log2(math.e)


class Tile(NamedTuple):
    """A chunk of a document's keys; row i of the block sees its columns from i + lower to i + upper."""

    start: int
    end: int
    lower: int | None  # None: no row is too far from it
    upper: int | None  # None: nothing of it is ahead of a row


def forward(
    query_THK: Tensor, key_SGK: Tensor, value_SGV: Tensor, documents: Documents, scoring: Scoring
) -> tuple[Tensor, Tensor]:
    """Compute outputs (T, H, V) of the query's type, and log-sum-exps (T, H) in nats.

    Sums and log-sum-exps are float32, float64 for float64 inputs. Rows that see no key have 0 and -inf.
    """
    num_rows, num_heads = query_THK.shape[:2]
    new = torch.Tensor.new_empty if documents.cover_queries(num_rows) else torch.Tensor.new_zeros
    out_THV = new(query_THK, (num_rows, num_heads, value_SGV.shape[2]))
    lse_HT = query_THK.new_full((num_heads, num_rows), -math.inf, dtype=_sum_dtype(query_THK))
    for heads, groups in _head_slices(query_THK, key_SGK, documents):
        given = _Inputs(query_THK[:, heads], key_SGK[:, groups], value_SGV[:, groups])
        desk = _Desk.of(given, documents, scoring)
        for document in documents:
            _forward_document(desk, document, given, out_THV[:, heads], lse_HT[heads])
    return out_THV, lse_HT.t().contiguous()


def backward(
    dout_THV: Tensor,
    query_THK: Tensor,
    key_SGK: Tensor,
    value_SGV: Tensor,
    out_THV: Tensor,
    lse_TH: Tensor,
    dlse_TH: Tensor | None,
    documents: Documents,
    scoring: Scoring,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of query, key and value from the final output and log-sum-exp.

    p = exp(s - lse), dv = p^T dout, ds = p (dout v^T - sum(dout out) + dlse), dq = scale ds k, dk = scale ds^T q
    """
    dtype = _sum_dtype(query_THK)
    lse_HT = lse_TH.t().to(dtype).contiguous()
    dlse_HT = None if dlse_TH is None else dlse_TH.t().to(dtype)
    new = torch.Tensor.new_empty if documents.cover_queries(len(query_THK)) else torch.Tensor.new_zeros
    dquery_THK = new(query_THK, query_THK.shape)
    # In the type of sums: a prefix collects from many documents.
    dkey_SGK, dvalue_SGV = (each.new_zeros(each.shape, dtype=dtype) for each in (key_SGK, value_SGV))
    for heads, groups in _head_slices(query_THK, key_SGK, documents):
        given = _Inputs(query_THK[:, heads], key_SGK[:, groups], value_SGV[:, groups])
        known = _Outputs(
            dout_THV[:, heads], out_THV[:, heads], lse_HT[heads], None if dlse_HT is None else dlse_HT[heads]
        )
        into = _Inputs(dquery_THK[:, heads], dkey_SGK[:, groups], dvalue_SGV[:, groups])
        desk = _Desk.of(given, documents, scoring)
        for document in documents:
            _backward_document(desk, document, given, known, into)
    return dquery_THK, dkey_SGK.to(key_SGK.dtype), dvalue_SGV.to(value_SGV.dtype)


class _Inputs(NamedTuple):
    """Query, key and value of some heads, or their gradients."""

    query_THK: Tensor
    key_SGK: Tensor
    value_SGV: Tensor


class _Outputs(NamedTuple):
    """What the backward pass knows of the outputs of some heads."""

    dout_THV: Tensor
    out_THV: Tensor
    lse_HT: Tensor
    dlse_HT: Tensor | None


class _Block(NamedTuple):
    """What the backward pass reads of a block of queries."""

    queries_bHK: Tensor
    douts_bHV: Tensor
    lse_Hb: Tensor
    delta_Hb: Tensor


@dataclass(frozen=True)
class _Desk:
    """The space that tiles are computed in, and what is the same for each of them."""

    scoring: Scoring
    share: int  # R
    buffers: tuple[Tensor, ...]
    zero: Tensor
    ahead: Tensor  # -inf where column >= row
    behind: Tensor  # -inf where column < row

    @classmethod
    def of(cls, given: _Inputs, documents: Documents, scoring: Scoring) -> _Desk:
        query, num_heads = given.query_THK, given.query_THK.shape[1]
        (rows, keys), dtype = _largest_tile(documents), _sum_dtype(query)
        walls = query.new_full((rows, rows), -math.inf, dtype=dtype)
        return cls(
            scoring,
            num_heads // given.key_SGK.shape[1],
            tuple(query.new_empty(num_heads * rows * keys, dtype=dtype) for _ in range(3 if scoring.soft_cap else 2)),
            walls.new_empty(1, 1, 1),
            walls.triu(),
            walls.tril(-1),
        )

    def tile(self, index: int, num_groups: int, rows: int, columns: int) -> Tensor:
        """Give out one of the buffers, as (R, G, b, n)."""
        shape = (self.share, num_groups, rows, columns)
        return self.buffers[index][: math.prod(shape)].view(shape)

    def score_(self, scores_RGbn: Tensor, queries: list[Tensor], keys_GKn: Tensor) -> None:
        """Fill in scores in units of ln 2, or their tanh where they are capped."""
        cap = self.scoring.soft_cap
        alpha = self.scoring.scale * (1 / cap if cap else LOG2_E)
        for scores_Gbn, queries_GbK in zip(scores_RGbn, queries, strict=True):
            torch.baddbmm(self.zero, queries_GbK, keys_GKn, beta=0, alpha=alpha, out=scores_Gbn)
        if cap:
            scores_RGbn.tanh_()

    def hide_(self, scores_RGbn: Tensor, tile: Tile) -> None:
        """Set to -inf what rows don't see."""
        rows, columns = scores_RGbn.shape[-2:]
        if tile.upper is not None:
            first = max(0, tile.upper + 1)
            begin = first - tile.upper - 1
            scores_RGbn[..., first:].add_(self.ahead[:rows, begin : begin + columns - first])
        if tile.lower is not None:
            width = min(columns, rows - 1 + tile.lower)
            scores_RGbn[..., :width].add_(self.behind[:rows, -tile.lower : -tile.lower + width])


def _forward_document(desk: _Desk, document: Document, given: _Inputs, out_THV: Tensor, lse_HT: Tensor) -> None:
    dtype = lse_HT.dtype
    keys_NGK, values_NGV = (_keys_of(document, each, dtype) for each in given[1:])
    if attention_flash.fits(document, desk.scoring, *given):
        rows = slice(document.query_start, document.query_end)
        queries_LHK = given.query_THK[rows].to(dtype)
        attention_flash.forward(queries_LHK, keys_NGK, values_NGV, desk.scoring, out_THV[rows], lse_HT[:, rows])
        return
    for rows, tiles in _blocks(document, desk.scoring):
        queries_bHK = given.query_THK[rows].to(dtype)
        _forward_block(desk, tiles, queries_bHK, keys_NGK, values_NGV, out_THV[rows], lse_HT[:, rows])


def _backward_document(desk: _Desk, document: Document, given: _Inputs, known: _Outputs, into: _Inputs) -> None:
    dtype = known.lse_HT.dtype
    keys_NGK, values_NGV = (_keys_of(document, each, dtype) for each in given[1:])
    dkeys_NGK, dvalues_NGV = (_gradient_of(document, each) for each in into[1:])
    # Torch's kernel computes delta itself, from outputs alone.
    if known.dlse_HT is None and attention_flash.fits(document, desk.scoring, *given):
        rows = slice(document.query_start, document.query_end)
        attention_flash.backward(
            (known.dout_THV[rows].to(dtype), known.out_THV[rows].to(dtype), known.lse_HT[:, rows]),
            (given.query_THK[rows].to(dtype), keys_NGK, values_NGV),
            desk.scoring,
            (into.query_THK[rows], dkeys_NGK, dvalues_NGV),
        )
        return
    for rows, tiles in _blocks(document, desk.scoring):
        douts_bHV = known.dout_THV[rows].to(dtype)
        delta_bH = (douts_bHV * known.out_THV[rows]).sum(-1)
        if known.dlse_HT is not None:
            delta_bH -= known.dlse_HT[:, rows].t()
        block = _Block(given.query_THK[rows].to(dtype), douts_bHV, known.lse_HT[:, rows] * LOG2_E, delta_bH.t())
        _backward_block(desk, tiles, block, keys_NGK, values_NGV, into.query_THK[rows], dkeys_NGK, dvalues_NGV)
    if document.has_prefix:
        _add_gradient(document, into.key_SGK, dkeys_NGK)
        _add_gradient(document, into.value_SGV, dvalues_NGV)


def _forward_block(
    desk: _Desk,
    tiles: list[Tile],
    queries_bHK: Tensor,
    keys_NGK: Tensor,
    values_NGV: Tensor,
    out_bHV: Tensor,
    lse_Hb: Tensor,
) -> None:
    """Walk a block's tiles with a running maximum, as flash attention does."""
    rows, num_groups = len(queries_bHK), keys_NGK.shape[1]
    queries = _shares(queries_bHK, desk.share)
    sums_bHV = out_bHV if out_bHV.dtype == queries_bHK.dtype else queries_bHK.new_empty(out_bHV.shape)
    sums = _shares(sums_bHV, desk.share)
    sums_bGRV = sums_bHV.unflatten(1, (num_groups, desk.share))
    tops: Tensor | None = None
    for tile in tiles:
        scores_RGbn = desk.tile(0, num_groups, rows, tile.end - tile.start)
        desk.score_(scores_RGbn, queries, keys_NGK[tile.start : tile.end].permute(1, 2, 0))
        if desk.scoring.soft_cap:
            scores_RGbn.mul_(desk.scoring.soft_cap * LOG2_E)
        desk.hide_(scores_RGbn, tile)
        tile_tops = scores_RGbn.amax(-1)
        if len(tiles) > 1:  # a row may see nothing of one tile, and -inf - -inf is no number
            tile_tops = tile_tops.clamp_(min=torch.finfo(tile_tops.dtype).min / 2)
        if tops is None:
            tops, beta = tile_tops, 0.0
            totals = scores_RGbn.sub_(tops[..., None]).exp2_().sum(-1)
        else:
            new_tops, beta = torch.maximum(tops, tile_tops), 1.0
            shrink = tops.sub_(new_tops).exp2_()
            tops = new_tops
            totals = scores_RGbn.sub_(tops[..., None]).exp2_().sum(-1).add_(totals.mul_(shrink))
            sums_bGRV.mul_(shrink.permute(2, 1, 0)[..., None])
        values_GnV = values_NGV[tile.start : tile.end].transpose(0, 1)
        for probabilities_Gbn, sums_GbV in zip(scores_RGbn, sums, strict=True):
            torch.baddbmm(sums_GbV, probabilities_Gbn, values_GnV, beta=beta, out=sums_GbV)
    assert tops is not None  # each block sees a key
    sums_bGRV.div_(totals.permute(2, 1, 0)[..., None])
    if sums_bHV is not out_bHV:
        out_bHV.copy_(sums_bHV)
    lse_RGb = lse_Hb.unflatten(0, (num_groups, desk.share)).transpose(0, 1)
    torch.mul(tops.add_(totals.log2_()), 1 / LOG2_E, out=lse_RGb)


def _backward_block(
    desk: _Desk,
    tiles: list[Tile],
    block: _Block,
    keys_NGK: Tensor,
    values_NGV: Tensor,
    dquery_bHK: Tensor,
    dkeys_NGK: Tensor,
    dvalues_NGV: Tensor,
) -> None:
    rows, num_groups, scale = len(dquery_bHK), keys_NGK.shape[1], desk.scoring.scale
    queries, douts = _shares(block.queries_bHK, desk.share), _shares(block.douts_bHV, desk.share)
    sums_bHK = dquery_bHK if dquery_bHK.dtype == keys_NGK.dtype else keys_NGK.new_empty(dquery_bHK.shape)
    lse_RGb1, delta_RGb1 = (
        each.unflatten(0, (num_groups, desk.share)).transpose(0, 1)[..., None]
        for each in (block.lse_Hb, block.delta_Hb)
    )
    for tile in tiles:
        columns = slice(tile.start, tile.end)
        ps_RGbn, ds_RGbn = (desk.tile(index, num_groups, rows, tile.end - tile.start) for index in (0, 1))
        desk.score_(ps_RGbn, queries, keys_NGK[columns].permute(1, 2, 0))
        slopes_RGbn = _uncap_(desk, ps_RGbn, desk.scoring.soft_cap) if desk.scoring.soft_cap else None
        ps_RGbn.sub_(lse_RGb1).exp2_()
        if tile.upper is not None:
            ps_RGbn.tril_(tile.upper)
        if tile.lower is not None:
            ps_RGbn.triu_(tile.lower)
        values_GVn, dvalues_GnV = values_NGV[columns].permute(1, 2, 0), dvalues_NGV[columns].transpose(0, 1)
        for ps_Gbn, ds_Gbn, douts_GbV in zip(ps_RGbn, ds_RGbn, douts, strict=True):
            torch.baddbmm(dvalues_GnV, ps_Gbn.transpose(1, 2), douts_GbV, out=dvalues_GnV)
            torch.bmm(douts_GbV, values_GVn, out=ds_Gbn)
        ds_RGbn.sub_(delta_RGb1).mul_(ps_RGbn)
        if slopes_RGbn is not None:
            ds_RGbn.mul_(slopes_RGbn)
        keys_GnK, dkeys_GnK = keys_NGK[columns].transpose(0, 1), dkeys_NGK[columns].transpose(0, 1)
        beta = 0.0 if tile is tiles[0] else 1.0
        for ds_Gbn, queries_GbK, dqueries_GbK in zip(ds_RGbn, queries, _shares(sums_bHK, desk.share), strict=True):
            torch.baddbmm(dkeys_GnK, ds_Gbn.transpose(1, 2), queries_GbK, alpha=scale, out=dkeys_GnK)
            torch.baddbmm(dqueries_GbK, ds_Gbn, keys_GnK, beta=beta, alpha=scale, out=dqueries_GbK)
    if sums_bHK is not dquery_bHK:
        dquery_bHK.copy_(sums_bHK)


def _uncap_(desk: _Desk, tanh_RGbn: Tensor, cap: float) -> Tensor:
    """Turn tanh(s / cap) into capped scores in place; return d cap tanh(s / cap) / ds = 1 - tanh^2."""
    slopes = desk.buffers[2][: tanh_RGbn.numel()].view(tanh_RGbn.shape)
    torch.mul(tanh_RGbn, tanh_RGbn, out=slopes).neg_().add_(1)
    tanh_RGbn.mul_(cap * LOG2_E)
    return slopes


def _shares(rows_bHK: Tensor, share: int) -> list[Tensor]:
    """Split heads into R views of (G, b, K): the r-th head of each group, whose keys a product takes as they lie."""
    return [rows_bHK[:, index::share].transpose(0, 1) for index in range(share)]


def _blocks(document: Document, scoring: Scoring) -> Iterator[tuple[slice, list[Tile]]]:
    """Cut a document's queries into even blocks (rows of the pack) with the tiles of keys that each sees."""
    num_queries, num_keys = document.query_end - document.query_start, document.num_keys
    begin = max(0, -document.shift) if scoring.causal else 0  # earlier queries see nothing
    if num_keys == 0 or begin >= num_queries:
        return
    step = _even(num_queries - begin, BLOCK_ROWS)
    for start in range(begin, num_queries, step):
        end = min(start + step, num_queries)
        place = document.shift + start  # of the first row among the keys
        first, last = 0, num_keys
        if scoring.causal:
            last = min(num_keys, place + end - start)
            first = max(0, place - scoring.window + 1) if scoring.window else 0
        tiles = [
            _tile(column, min(column + CHUNK_KEYS, last), place, end - start, scoring)
            for column in range(first, last, CHUNK_KEYS)
        ]
        yield slice(document.query_start + start, document.query_start + end), tiles


def _tile(start: int, end: int, place: int, rows: int, scoring: Scoring) -> Tile:
    if not scoring.causal:
        return Tile(start, end, None, None)
    upper = place - start
    lower = upper - scoring.window + 1 if scoring.window else -rows
    return Tile(start, end, lower if lower + rows > 1 else None, upper if upper < end - start - 1 else None)


def _largest_tile(documents: Documents) -> tuple[int, int]:
    rows = max((document.query_end - document.query_start for document in documents), default=0)
    keys = max((document.num_keys for document in documents), default=0)
    return min(rows, BLOCK_ROWS), min(keys, CHUNK_KEYS)


def _head_slices(query_THK: Tensor, key_SGK: Tensor, documents: Documents) -> list[tuple[slice, slice]]:
    """Cut heads into slices, of queries and of keys, whose tiles have at most `TILE_FLOATS` floats (or one group)."""
    num_groups = key_SGK.shape[1]
    share = query_THK.shape[1] // num_groups
    step = _even(num_groups, max(1, TILE_FLOATS // max(1, share * math.prod(_largest_tile(documents)))))
    ends = [(start, min(start + step, num_groups)) for start in range(0, num_groups, step)]
    return [(slice(start * share, end * share), slice(start, end)) for start, end in ends]


def _even(total: int, limit: int) -> int:
    """Return the size of equal parts, each at most `limit`."""
    return -(-total // -(-total // limit))


def _keys_of(document: Document, rows_SGK: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the keys that a document sees, prefix first: a view where that is possible."""
    own = rows_SGK[document.key_start : document.key_end]
    if document.has_prefix:
        own = torch.cat([rows_SGK[document.prefix_start : document.prefix_end], own])
    return own.to(dtype)


def _gradient_of(document: Document, sums_SGK: Tensor) -> Tensor:
    """Return where the gradient of a document's keys is collected: its place, or new zeros if there is a prefix."""
    if document.has_prefix:
        return sums_SGK.new_zeros(document.num_keys, *sums_SGK.shape[1:])
    return sums_SGK[document.key_start : document.key_end]


def _add_gradient(document: Document, sums_SGK: Tensor, gradient_NGK: Tensor) -> None:
    length = document.prefix_end - document.prefix_start
    sums_SGK[document.prefix_start : document.prefix_end] += gradient_NGK[:length]
    sums_SGK[document.key_start : document.key_end] += gradient_NGK[length:]


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
