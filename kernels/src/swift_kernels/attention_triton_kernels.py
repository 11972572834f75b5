"""The Triton kernels of attention: flash attention whose programs read from a table which rows are theirs.

Scores are in units of ln 2 where they are exponentiated, so that exp2 makes probabilities of them. Products take their
inputs' type and add up in float32. Nothing is written by two programs. `attention_triton` launches them.

T queries, S keys, H heads, G key-value heads, K head size, V value size.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _score(products: tl.tensor, scale: float, soft_cap: float, CAPPED: tl.constexpr) -> tl.tensor:
    """Scale and cap, in nats."""
    scores = products * scale
    if CAPPED:
        # tanh u = 2 sigmoid(2 u) - 1
        scores = soft_cap * (2.0 * tl.sigmoid(2.0 * scores / soft_cap) - 1.0)
    return scores


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _load_rows(base: tl.tensor, rows: tl.tensor, stride: int, SIZE: tl.constexpr, PADDED: tl.constexpr) -> tl.tensor:
    """Load (rows, PADDED) values, zero beyond SIZE. Rows are clamped by the caller: a mask would cost registers."""
    dims = tl.arange(0, PADDED)
    pointers = base + rows.to(tl.int64)[:, None] * stride + dims[None, :]
    if SIZE == PADDED:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=(dims < SIZE)[None, :], other=0.0)


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _store_rows(
    base: tl.tensor,
    values: tl.tensor,
    rows: tl.tensor,
    inside: tl.tensor,
    stride: int,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
) -> None:
    dims = tl.arange(0, PADDED)
    pointers = base + rows.to(tl.int64)[:, None] * stride + dims[None, :]
    tl.store(pointers, values.to(base.dtype.element_ty), mask=inside[:, None] & (dims < SIZE)[None, :])


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def forward_kernel(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    out: tl.tensor,
    lse: tl.tensor,
    table: tl.tensor,
    query_stride: int,
    query_head_stride: int,
    key_stride: int,
    key_head_stride: int,
    value_stride: int,
    value_head_stride: int,
    num_heads: int,
    scale: float,
    soft_cap: float,
    window: int,
    SHARE: tl.constexpr,
    SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    VALUE_PADDED: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TF32: tl.constexpr,
) -> None:
    """Write output and log-sum-exp of one block of queries; the program's indices are block and head."""
    PRECISION: tl.constexpr = "tf32" if TF32 else "ieee"
    table += tl.program_id(0) * FIELDS
    head = tl.program_id(1)
    first, num_rows, place = tl.load(table), tl.load(table + 1), tl.load(table + 2)
    prefix, num_prefix = tl.load(table + 3), tl.load(table + 4)
    own, num_own = tl.load(table + 5), tl.load(table + 6)
    key += (head // SHARE).to(tl.int64) * key_head_stride
    value += (head // SHARE).to(tl.int64) * value_head_stride
    index = tl.arange(0, ROWS)
    clamped = tl.minimum(index, num_rows - 1)
    rows, places = first + clamped, place + clamped
    q = _load_rows(query + head.to(tl.int64) * query_head_stride, rows, query_stride, SIZE, PADDED)
    tops = tl.full([ROWS], float("-inf"), tl.float32)
    totals = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, VALUE_PADDED], tl.float32)
    begin, end = 0, num_prefix + num_own
    last = tl.zeros([ROWS], tl.int32) + end - 1  # the last column that each row sees
    if CAUSAL:
        end = tl.minimum(end, place + num_rows)
        last = tl.minimum(last, places)
    if WINDOWED:
        begin = tl.maximum(begin, place - window + 1)
    for start in range(begin, end, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        # A column is a key of the prefix, or after it one of the document's own.
        known = tl.minimum(columns, end - 1)
        keys = tl.where(known < num_prefix, prefix + known, own + known - num_prefix)
        k = _load_rows(key, keys, key_stride, SIZE, PADDED)
        scores = _score(tl.dot(q, tl.trans(k), input_precision=PRECISION), scale, soft_cap, CAPPED) * LOG2_E
        seen = columns[None, :] <= last[:, None]
        if WINDOWED:
            seen = seen & (columns[None, :] > places[:, None] - window)
        scores = tl.where(seen, scores, float("-inf"))
        new_tops = tl.maximum(tops, tl.max(scores, 1))
        finite = tl.where(new_tops == float("-inf"), 0.0, new_tops)  # a row may see nothing yet
        probabilities = tl.exp2(scores - finite[:, None])
        shrink = tl.exp2(tops - finite)
        totals = totals * shrink + tl.sum(probabilities, 1)
        v = _load_rows(value, keys, value_stride, VALUE_SIZE, VALUE_PADDED)
        sums = sums * shrink[:, None]
        sums = tl.dot(probabilities.to(v.dtype), v, acc=sums, input_precision=PRECISION)
        tops = new_tops
    inside = index < num_rows
    out_stride = num_heads * VALUE_SIZE
    _store_rows(out + head * VALUE_SIZE, sums / totals[:, None], rows, inside, out_stride, VALUE_SIZE, VALUE_PADDED)
    tl.store(lse + rows.to(tl.int64) * num_heads + head, (tops + tl.log2(totals)) / LOG2_E, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def query_gradient_kernel(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    dout: tl.tensor,
    lse: tl.tensor,
    delta: tl.tensor,
    dquery: tl.tensor,
    table: tl.tensor,
    query_stride: int,
    query_head_stride: int,
    key_stride: int,
    key_head_stride: int,
    value_stride: int,
    value_head_stride: int,
    dout_stride: int,
    dout_head_stride: int,
    num_heads: int,
    scale: float,
    soft_cap: float,
    window: int,
    SHARE: tl.constexpr,
    SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    VALUE_PADDED: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TF32: tl.constexpr,
) -> None:
    """Write the gradient of one block of queries; the program's indices are block and head."""
    PRECISION: tl.constexpr = "tf32" if TF32 else "ieee"
    table += tl.program_id(0) * FIELDS
    head = tl.program_id(1)
    first, num_rows, place = tl.load(table), tl.load(table + 1), tl.load(table + 2)
    prefix, num_prefix = tl.load(table + 3), tl.load(table + 4)
    own, num_own = tl.load(table + 5), tl.load(table + 6)
    key += (head // SHARE).to(tl.int64) * key_head_stride
    value += (head // SHARE).to(tl.int64) * value_head_stride
    index = tl.arange(0, ROWS)
    clamped = tl.minimum(index, num_rows - 1)
    rows, places = first + clamped, place + clamped
    q = _load_rows(query + head.to(tl.int64) * query_head_stride, rows, query_stride, SIZE, PADDED)
    do = _load_rows(dout + head.to(tl.int64) * dout_head_stride, rows, dout_stride, VALUE_SIZE, VALUE_PADDED)
    statistic = rows.to(tl.int64) * num_heads + head
    log_sums = tl.load(lse + statistic) * LOG2_E
    deltas = tl.load(delta + statistic)
    dq = tl.zeros([ROWS, PADDED], tl.float32)
    begin, end = 0, num_prefix + num_own
    last = tl.zeros([ROWS], tl.int32) + end - 1  # the last column that each row sees
    if CAUSAL:
        end = tl.minimum(end, place + num_rows)
        last = tl.minimum(last, places)
    if WINDOWED:
        begin = tl.maximum(begin, place - window + 1)
    for start in range(begin, end, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        known = tl.minimum(columns, end - 1)
        keys = tl.where(known < num_prefix, prefix + known, own + known - num_prefix)
        k = _load_rows(key, keys, key_stride, SIZE, PADDED)
        v = _load_rows(value, keys, value_stride, VALUE_SIZE, VALUE_PADDED)
        scores = _score(tl.dot(q, tl.trans(k), input_precision=PRECISION), scale, soft_cap, CAPPED)
        seen = columns[None, :] <= last[:, None]
        if WINDOWED:
            seen = seen & (columns[None, :] > places[:, None] - window)
        p = tl.where(seen, tl.exp2(scores * LOG2_E - log_sums[:, None]), 0.0)
        ds = p * (tl.dot(do, tl.trans(v), input_precision=PRECISION) - deltas[:, None])
        ds = _through_cap(ds, scores, soft_cap, CAPPED)
        dq = tl.dot(ds.to(k.dtype), k, acc=dq, input_precision=PRECISION)
    _store_rows(dquery + head * SIZE, dq * scale, rows, index < num_rows, num_heads * SIZE, SIZE, PADDED)


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _sees(
    columns: tl.tensor,
    rows: tl.tensor,
    places: tl.tensor,
    end: tl.tensor,
    window: int,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
) -> tl.tensor:
    """Return which queries see which keys, (keys, queries); keys beyond the block are clamped ones and not stored."""
    seen = (rows < end)[None, :]
    if CAUSAL:
        seen = seen & (columns[:, None] <= places[None, :])
    if WINDOWED:
        seen = seen & (columns[:, None] > (places - window)[None, :])
    return seen


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def _through_cap(ds: tl.tensor, scores: tl.tensor, soft_cap: float, CAPPED: tl.constexpr) -> tl.tensor:
    """Return the gradient of scores before they were capped."""
    if CAPPED:
        ds = ds * (1.0 - (scores / soft_cap) * (scores / soft_cap))
    return ds


@triton.jit  # type: ignore[untyped-decorator]  # triton's own
def key_gradient_kernel(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    dout: tl.tensor,
    lse: tl.tensor,
    delta: tl.tensor,
    dkey: tl.tensor,
    dvalue: tl.tensor,
    blocks: tl.tensor,
    visits: tl.tensor,
    query_stride: int,
    query_head_stride: int,
    key_stride: int,
    key_head_stride: int,
    value_stride: int,
    value_head_stride: int,
    dout_stride: int,
    dout_head_stride: int,
    num_heads: int,
    scale: float,
    soft_cap: float,
    window: int,
    SHARE: tl.constexpr,
    SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    VALUE_PADDED: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
    FIELDS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TF32: tl.constexpr,
) -> None:
    """Write the gradients of one block of keys; the program's indices are block and key-value head.

    Scores stand transposed here, (keys, queries), so that they enter both products as they lie.
    """
    PRECISION: tl.constexpr = "tf32" if TF32 else "ieee"
    blocks += tl.program_id(0) * FIELDS
    group = tl.program_id(1)
    first, num_rows = tl.load(blocks), tl.load(blocks + 1)
    first_visit, end_visit = tl.load(blocks + 2), tl.load(blocks + 3)
    index = tl.arange(0, ROWS)
    keys = first + tl.minimum(index, num_rows - 1)
    k = _load_rows(key + group.to(tl.int64) * key_head_stride, keys, key_stride, SIZE, PADDED)
    v = _load_rows(value + group.to(tl.int64) * value_head_stride, keys, value_stride, VALUE_SIZE, VALUE_PADDED)
    dk = tl.zeros([ROWS, PADDED], tl.float32)
    dv = tl.zeros([ROWS, VALUE_PADDED], tl.float32)
    for visit in range(first_visit, end_visit):
        begin, end = tl.load(visits + visit * FIELDS), tl.load(visits + visit * FIELDS + 1)
        shift, column = tl.load(visits + visit * FIELDS + 2), tl.load(visits + visit * FIELDS + 3)
        shift -= begin  # a query's place is its row plus this
        columns = column + index
        if CAUSAL:
            begin = tl.maximum(begin, column - shift)
        if WINDOWED:
            end = tl.minimum(end, column + num_rows - 1 + window - shift)
        # Each step takes the next queries of one head, then the next head's.
        per_head = tl.maximum(0, tl.cdiv(end - begin, COLUMNS))
        for step in range(0, per_head * SHARE):
            head = group * SHARE + step // per_head
            rows = begin + (step % per_head) * COLUMNS + tl.arange(0, COLUMNS)
            known = tl.minimum(rows, end - 1)
            q = _load_rows(query + head.to(tl.int64) * query_head_stride, known, query_stride, SIZE, PADDED)
            do = _load_rows(dout + head.to(tl.int64) * dout_head_stride, known, dout_stride, VALUE_SIZE, VALUE_PADDED)
            statistic = known.to(tl.int64) * num_heads + head
            log_sums, deltas = tl.load(lse + statistic) * LOG2_E, tl.load(delta + statistic)
            scores = _score(tl.dot(k, tl.trans(q), input_precision=PRECISION), scale, soft_cap, CAPPED)
            seen = _sees(columns, rows, rows + shift, end, window, CAUSAL, WINDOWED)
            p = tl.where(seen, tl.exp2(scores * LOG2_E - log_sums[None, :]), 0.0)
            dv = tl.dot(p.to(do.dtype), do, acc=dv, input_precision=PRECISION)
            ds = p * (tl.dot(v, tl.trans(do), input_precision=PRECISION) - deltas[None, :])
            ds = _through_cap(ds, scores, soft_cap, CAPPED)
            dk = tl.dot(ds.to(q.dtype), q, acc=dk, input_precision=PRECISION)
    num_groups, inside = num_heads // SHARE, index < num_rows
    _store_rows(dkey + group * SIZE, dk * scale, keys, inside, num_groups * SIZE, SIZE, PADDED)
    _store_rows(dvalue + group * VALUE_SIZE, dv, keys, inside, num_groups * VALUE_SIZE, VALUE_SIZE, VALUE_PADDED)
