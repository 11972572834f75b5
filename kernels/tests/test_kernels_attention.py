"""Attention over documents: tiles of torch operations, torch's own kernel, merging and gradients of pieces."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import TypedDict

import pytest
import torch
from swift_kernels import (
    Documents,
    add_sinks,
    attention,
    attention_backward,
    attention_cpu,
    attention_reference,
    attention_with_lse,
    merge_attention,
)
from swift_kernels.attention_documents import Document
from swift_kernels.testing import check_kernel, poisoned_memory
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Sums are float32 for all three types, so what is stored sets the difference: eps of the type is 1e-7, 8e-3 and 1e-3.
# Two bfloat16 roundings meet where the stored output enters the gradient.
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}

# Documents, queries, keys: lengths of 0 and 1, around the size of a block, more keys than queries and the other way
# round, rows of no document, shared prefixes.
ROWS = {
    "odd lengths": (Documents.from_cu_seqlens([0, 1, 1, 8, 231, 440, 441]), 441, 441),
    "more keys": (Documents.from_cu_seqlens([0, 5, 250], [0, 9, 400]), 253, 410),
    "more queries": (Documents.from_cu_seqlens([0, 50, 250], [0, 9, 30]), 260, 31),
    "branches": (Documents.from_branches([(130, [1, 7, 210]), (3, [0, 5])]), 356, 356),
    "keys nobody sees": (Documents((3, 20), (11, 40), (5, 20), (10, 33), (0, 11), (0, 19)), 45, 38),
    "none": (Documents((), (), (), ()), 3, 2),
}
Three = tuple[Tensor, Tensor, Tensor]


class Options(TypedDict, total=False):
    """Keywords of `attention`."""

    scale: float
    causal: bool
    window: int
    soft_cap: float


OPTIONS: dict[str, Options] = {
    "causal": {},
    "all see all": {"causal": False},
    "window of 1": {"window": 1},
    "window": {"window": 150},
    "soft cap": {"soft_cap": 2.0},
    "all options": {"scale": 0.7, "soft_cap": 3.0, "window": 30},
}


def inputs(num_queries: int, num_keys: int, *, value_size: int = 16, dtype: torch.dtype = torch.float32) -> Three:
    """Queries of 6 heads, keys and values of 2, of size 16; new numbers at each call."""
    shapes = (num_queries, 6, 16), (num_keys, 2, 16), (num_keys, 2, value_size)
    query, key, value = (torch.randn(shape).to(dtype) for shape in shapes)
    return query, key, value


def each_of(given: Three, change: Callable[[Tensor], Tensor]) -> Three:
    query, key, value = map(change, given)
    return query, key, value


def both(
    function: Callable[..., tuple[Tensor, Tensor]], documents: Documents, options: Options
) -> Callable[..., Tensor]:
    """Output and log-sum-exp as one tensor, so that both are compared and differentiated; -inf as 0."""

    def compute(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out, lse = function(query, key, value, documents, **options)
        lse = lse.masked_fill(lse == -math.inf, 0.0)
        return torch.cat([out.to(lse.dtype), lse[..., None]], dim=-1)

    return compute


@pytest.mark.parametrize(
    ("dtype", "value_size"),
    [(torch.float32, 16), (torch.float32, 24), (torch.bfloat16, 16), (torch.float16, 24)],
    ids=["float32", "float32, wider values", "bfloat16", "float16, wider values"],
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_outputs_and_gradients_match_float64(
    row: tuple[Documents, int, int], value_size: int, options: Options, dtype: torch.dtype
) -> None:
    documents, num_queries, num_keys = row
    check_kernel(
        both(attention_with_lse, documents, options),
        both(attention_reference, documents, options),
        inputs(num_queries, num_keys, value_size=value_size, dtype=dtype),
        tolerance=TOLERANCE[dtype],
    )


@pytest.mark.parametrize("name", ["odd lengths", "more queries", "branches", "keys nobody sees"])
def test_gradients_of_the_output_alone_match_float64(name: str) -> None:
    """Where the log-sum-exp isn't used, torch's kernel computes the gradients of short documents."""
    documents, num_queries, num_keys = ROWS[name]
    check_kernel(
        lambda q, k, v: attention(q, k, v, documents),
        lambda q, k, v: attention_reference(q, k, v, documents)[0],
        inputs(num_queries, num_keys),
        tolerance=TOLERANCE[torch.float32],
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_tiles_of_any_size_give_the_same(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk may end before, inside and behind the diagonal; with one group of heads at a time."""
    monkeypatch.setattr(attention_cpu, "BLOCK_ROWS", 13)
    monkeypatch.setattr(attention_cpu, "CHUNK_KEYS", 7)
    monkeypatch.setattr(attention_cpu, "TILE_FLOATS", 1)
    documents, num_queries, num_keys = ROWS["branches"]
    check_kernel(
        both(attention_with_lse, documents, options),
        both(attention_reference, documents, options),
        inputs(num_queries, num_keys, value_size=24),
        tolerance=TOLERANCE[torch.float32],
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_gradcheck(options: Options) -> None:
    documents = Documents.from_branches([(5, [3, 1]), (0, [4])])
    given = each_of(inputs(13, 13), lambda each: each[..., :3].double().requires_grad_())
    assert torch.autograd.gradcheck(lambda q, k, v: attention_with_lse(q, k, v, documents, **options), given)
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, documents, **options), given)


def test_reference_equals_torch_attention() -> None:
    given = inputs(9, 9)
    query, key, value = each_of(given, lambda each: each.transpose(0, 1))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    out, _ = attention_reference(*given, Documents.whole(9))
    torch.testing.assert_close(out, expected.transpose(0, 1))


def test_two_keys_by_hand() -> None:
    # Scores 0 and ln 3: weights 1/4 and 3/4 of the values 0 and 8; log-sum-exp ln 4.
    key = torch.tensor([[[0.0]], [[math.log(3)]]])
    value = torch.tensor([[[0.0]], [[8.0]]])
    out, lse = attention_with_lse(torch.ones(1, 1, 1), key, value, Documents.from_cu_seqlens([0, 1], [0, 2]))
    assert out.item() == pytest.approx(6.0, rel=1e-6)
    assert lse.item() == pytest.approx(math.log(4), rel=1e-6)


def test_a_branch_computes_what_its_whole_dialogue_computes() -> None:
    """Prefix and branch in one row, and the dialogue on its own: the same outputs, also through a window."""
    documents = Documents.from_branches([(140, [30, 170])])
    given = inputs(340, 340)
    for options in (Options(), Options(window=50)):
        packed = attention(*given, documents, **options)
        second = each_of(given, lambda each: torch.cat([each[:140], each[170:]]))
        alone = attention(*second, Documents.whole(310), **options)
        # Blocks are cut elsewhere: float32 sums in another order.
        torch.testing.assert_close(packed[170:], alone[140:], atol=2e-6, rtol=1e-5)


def test_documents_dont_see_each_other() -> None:
    documents, given = Documents.from_cu_seqlens([0, 170, 200, 400]), inputs(400, 400)
    before = attention(*given, documents)
    changed = each_of(given, lambda each: torch.cat([each[:170], torch.randn_like(each[170:200]), each[200:]]))
    changed[1][171] = math.nan
    after = attention(*changed, documents)
    assert torch.equal(before[:170], after[:170]) and torch.equal(before[200:], after[200:])
    assert not torch.equal(before[170:200], after[170:200])


def test_scores_far_below_the_largest_are_exact_zeros_without_nan() -> None:
    query, key, value = each_of(inputs(300, 300), Tensor.requires_grad_)
    out = attention(query * 100, key * 100, value, Documents.whole(300))
    out.sum().backward()
    expected, _ = attention_reference(query.double() * 100, key.double() * 100, value.double(), Documents.whole(300))
    # Scores reach 1e5, where float32 has steps of 1e-2: that much of a value may move from one key to another.
    assert float((out - expected).detach().abs().max()) < 0.1
    assert all(each.grad is not None and each.grad.isfinite().all() for each in (query, key, value))


@pytest.mark.parametrize("parts", [[(0, 300)], [(0, 130), (130, 300)], [(0, 0), (0, 40), (40, 300)]], ids=str)
def test_merged_pieces_and_their_gradients_equal_the_whole(parts: list[tuple[int, int]]) -> None:
    """What a ring does: each piece of keys by itself, then its gradients from the merged output."""
    query, key, value = inputs(300, 300)
    dout, dlse = torch.randn(300, 6, 16), torch.randn(300, 6)
    leaves = each_of((query, key, value), lambda each: each.clone().requires_grad_())
    whole = attention_with_lse(*leaves, Documents.whole(300))
    torch.autograd.backward(whole, [dout, dlse])
    merged = torch.zeros(300, 6, 16), torch.full((300, 6), -math.inf)
    # Queries before a piece see nothing of it, those behind see all, those inside are causal.
    pieces = [
        (low, high, rows, causal)
        for low, high in parts
        for rows, causal in ((slice(low, high), True), (slice(high, 300), False))
    ]

    def documents_of(rows: slice, low: int, high: int) -> Documents:
        return Documents((rows.start,), (rows.stop,), (0,), (high - low,))

    for low, high, rows, causal in pieces:
        piece = attention_with_lse(query, key[low:high], value[low:high], documents_of(rows, low, high), causal=causal)
        merged = merge_attention(*merged, *piece)
    torch.testing.assert_close(merged[0], whole[0].detach(), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(merged[1], whole[1].detach(), atol=2e-6, rtol=1e-5)
    grads = [torch.zeros_like(each) for each in (query, key, value)]
    for low, high, rows, causal in pieces:
        found = attention_backward(
            dout,
            query,
            key[low:high],
            value[low:high],
            *merged,
            documents_of(rows, low, high),
            dlse_TH=dlse,
            causal=causal,
        )
        grads[0] += found[0]
        grads[1][low:high] += found[1]
        grads[2][low:high] += found[2]
    for mine, leaf in zip(grads, leaves, strict=True):
        assert leaf.grad is not None
        # Sums of 300 float32 terms in another order.
        torch.testing.assert_close(mine, leaf.grad, atol=1e-5, rtol=1e-4)


def test_merging_is_differentiable_where_one_or_both_sides_are_empty() -> None:
    lse_a = torch.tensor([[0.5], [-math.inf], [0.25], [-math.inf]], dtype=torch.float64, requires_grad=True)
    lse_b = torch.tensor([[1.5], [0.75], [-math.inf], [-math.inf]], dtype=torch.float64, requires_grad=True)
    out_a, out_b = (torch.randn(4, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out, lse = merge_attention(out_a, lse_a, out_b, lse_b)
    assert torch.equal(out[1], out_b[1]) and torch.equal(out[2], out_a[2]) and torch.equal(out[3], torch.zeros(1, 2))
    assert lse[1].item() == 0.75 and lse[2].item() == 0.25 and lse[3].item() == -math.inf
    # By hand: log(e^0.5 + e^1.5); weight of b is e / (1 + e).
    assert lse[0].item() == pytest.approx(math.log(math.exp(0.5) + math.exp(1.5)), rel=1e-12)
    (out.sum() + lse[:3].sum()).backward()
    for leaf in (lse_a, lse_b, out_a, out_b):
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert out_b.grad is not None
    assert out_b.grad[0, 0, 0].item() == pytest.approx(math.e / (1 + math.e), rel=1e-12)


def test_a_sink_is_a_key_of_value_zero() -> None:
    """gpt-oss concatenates the sink to the scores and drops its probability: here done with a key made for it."""
    query, key, value = inputs(7, 7)
    sinks = torch.randn(6, requires_grad=True)
    scores = torch.einsum("thk,shk->hts", query, key.repeat_interleave(3, 1)) / 4
    scores = scores.masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -math.inf)
    columns = torch.cat([scores, sinks[:, None, None].expand(6, 7, 1)], -1)
    expected = torch.einsum("hts,shk->thk", columns.softmax(-1)[..., :7], value.repeat_interleave(3, 1))
    out = attention(query, key, value, Documents.whole(7), sinks_H=sinks)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    (mine,) = torch.autograd.grad((out * weight).sum(), sinks)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), sinks)
    torch.testing.assert_close(mine, theirs)
    _, lse = add_sinks(*attention_with_lse(query, key, value, Documents.whole(7)), sinks)
    torch.testing.assert_close(lse, columns.logsumexp(-1).t())


class LargestStorage(TorchDispatchMode):
    """Remembers the bytes of the largest storage that an operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type there
        self.num_bytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.num_bytes = max(self.num_bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("options", [Options(), Options(window=5000)], ids=["torch's kernel", "tiles"])
def test_memory_does_not_grow_with_the_square_of_tokens(options: Options) -> None:
    """The largest tensor for 6,000 tokens in one document is a buffer or an input, far below 6,000 x 6,000 scores."""
    given = each_of(inputs(6000, 6000), Tensor.requires_grad_)
    with LargestStorage() as largest:
        attention(*given, Documents.whole(6000), **options).sum().backward()
    assert 0 < largest.num_bytes <= 4 * max(attention_cpu.TILE_FLOATS, 6000 * 6 * 16)


def test_autocast_decides_the_type_and_does_not_reach_the_tiles() -> None:
    documents, given = Documents.from_cu_seqlens([0, 200, 350]), inputs(350, 350)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(*given, documents)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, attention(*each_of(given, Tensor.bfloat16), documents))


def test_strided_inputs_are_taken_as_they_lie() -> None:
    """Query, key and value as slices of one fused projection, heads first or last."""
    fused = torch.randn(200, 10, 16)
    parts = fused[:, :6], fused[:, 6:8], fused[:, 8:]
    documents = Documents.from_cu_seqlens([0, 20, 200])
    expected = attention(*each_of(parts, Tensor.contiguous), documents)
    assert torch.equal(attention(*parts, documents), expected)
    heads_first = each_of(parts, lambda each: each.transpose(0, 1).contiguous().transpose(0, 1))
    with poisoned_memory():
        torch.testing.assert_close(attention(*heads_first, documents), expected, atol=2e-6, rtol=1e-5)


def test_position_ids_begin_a_document_where_they_do_not_go_on() -> None:
    documents = Documents.from_position_ids(torch.tensor([0, 1, 2, 0, 0, 1, 7, 8, 3]))
    assert documents == Documents.from_cu_seqlens([0, 3, 4, 6, 8, 9])
    assert Documents.from_position_ids(torch.tensor([5, 6])) == Documents.whole(2)
    assert len(Documents.from_position_ids(torch.tensor([], dtype=torch.long))) == 0


def test_branches_lie_behind_their_prefix() -> None:
    assert list(Documents.from_branches([(4, [2, 3]), (1, [1])])) == [
        Document(0, 4, 0, 4),
        Document(4, 6, 4, 6, 0, 4),
        Document(6, 9, 6, 9, 0, 4),
        Document(9, 10, 9, 10),
        Document(10, 11, 10, 11, 9, 10),
    ]
    assert len(Documents.from_branches([])) == 0


def test_documents_can_be_sent_to_another_process() -> None:
    documents = Documents.from_branches([(4, [2, 3])])
    assert pickle.loads(pickle.dumps(documents)) == documents


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Documents((0,), (2,), (0,), ()), r"\[1, 1, 1, 0\] query starts"),
        (lambda: Documents((0, 1), (2, 3), (0, 2), (2, 3)), "queries of documents at .* not overlapping"),
        (lambda: Documents((0,), (2,), (3,), (2,)), "keys of documents at"),
        (lambda: Documents((0,), (2,), (0,), (2,), (0, 0), (0, 0)), "2 prefix starts and 2 prefix ends for 1"),
        (lambda: Documents((0,), (2,), (2,), (4,), (0,), (3,)), "1 keys are both prefix and its own"),
        (lambda: Documents((0,), (2,), (2,), (4,), (1,), (0,)), "expected 0 <= prefix_start <= prefix_end"),
        (lambda: Documents.from_position_ids(torch.zeros(3, 4, dtype=torch.long)), r"shape \(3, 4\); expected \(T,\)"),
        (lambda: Documents.from_cu_seqlens([]), "cu_seqlens is empty"),
    ],
    ids=["missing", "overlap", "backwards", "prefixes", "own prefix", "prefix backwards", "mrope", "empty"],
)
def test_impossible_documents_are_refused(make: Callable[[], Documents], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("shapes", "dtype", "length", "options", "message"),
    [
        (((1, 4, 6, 16), (4, 2, 16), (4, 2, 16)), torch.float32, 4, {}, "without a batch"),
        (((4, 5, 16), (4, 2, 16), (4, 2, 16)), torch.float32, 4, {}, "heads H a multiple of key-value heads G"),
        (((4, 6, 8), (4, 2, 16), (4, 2, 16)), torch.float32, 4, {}, "one head size K"),
        (
            ((4, 6, 16), (4, 2, 16), (3, 2, 16)),
            torch.float32,
            4,
            {},
            r"expected \(T, H, K\), \(S, G, K\) and \(S, G, V\)",
        ),
        (((4, 6, 16), (4, 2, 16), (4, 2, 16)), torch.float16, 4, {}, "torch.float16 on cpu.*the same type and device"),
        (((4, 6, 16), (4, 2, 16), (4, 2, 16)), torch.float32, 5, {}, "documents reach to query 5 and key 5"),
        (((4, 6, 16), (4, 2, 16), (4, 2, 16)), torch.float32, 4, {"window": 0}, "window=0"),
        (
            ((4, 6, 16), (4, 2, 16), (4, 2, 16)),
            torch.float32,
            4,
            {"window": 3, "causal": False},
            "window=3 with causal",
        ),
        (((4, 6, 16), (4, 2, 16), (4, 2, 16)), torch.float32, 4, {"soft_cap": 0.0}, "soft_cap=0.0"),
    ],
    ids=["batch", "heads", "size", "values", "type", "documents", "no window", "window, not causal", "cap"],
)
def test_what_does_not_fit_is_named(
    shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, length: int, options: Options, message: str
) -> None:
    query, key, value = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        attention(query, key.to(dtype), value, Documents.whole(length), **options)


def test_the_merged_outputs_must_have_the_shapes_of_the_piece() -> None:
    query, key, value = inputs(4, 4)
    with pytest.raises(ValueError, match=r"lse \(6, 4\)"):
        attention_backward(query, query, key, value, query, torch.zeros(6, 4), Documents.whole(4))
