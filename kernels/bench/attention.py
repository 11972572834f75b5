"""Time attention over documents against torch's: `python kernels/bench/attention.py --threads 1`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Case, main
from swift_kernels import Documents, attention
from torch import Tensor

# Heads, key-value heads, head size: SmolLM2-135M's, and on a GPU Llama 8B's.
SIZES = {"cpu": (9, 3, 64), "cuda": (32, 8, 128)}


def cases(device: torch.device) -> Iterator[Case]:
    """Yield forward and backward over packed rows of documents, from short to one whole row."""
    num_tokens = 4096 if device.type == "cpu" else 32768
    for dtype in (torch.bfloat16, torch.float32):
        for mean in (64, 300, 1024, num_tokens):
            yield _case(num_tokens, _lengths(num_tokens, mean), mean, dtype, device)


def _lengths(num_tokens: int, mean: int) -> list[int]:
    """Lengths between half and one and a half of `mean` that fill the row; the same at each call."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = []
    while (left := num_tokens - sum(lengths)) > 0:
        length = int(torch.randint(mean // 2, mean * 3 // 2 + 1, (1,), generator=generator))
        lengths.append(min(left, num_tokens if mean == num_tokens else length))
    return lengths


def _case(num_tokens: int, lengths: list[int], mean: int, dtype: torch.dtype, device: torch.device) -> Case:
    heads, groups, size = SIZES[device.type]
    query, key, value = (
        torch.randn(num_tokens, each, size, device=device).to(dtype).requires_grad_()
        for each in (heads, groups, groups)
    )
    dout = torch.randn(num_tokens, heads, size, device=device).to(dtype)
    documents = Documents.from_cu_seqlens(torch.tensor([0, *lengths]).cumsum(0))
    document_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    index_T = torch.arange(num_tokens, device=device)
    mask_TT = (document_T[:, None] == document_T[None, :]) & (index_T[:, None] >= index_T[None, :])
    # Where token t stands when each document is a row of its own, padded to the longest.
    longest = max(lengths)
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0).to(device)
    padded_T = document_T * longest + index_T - starts[document_T]

    def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)

    def dense() -> Tensor:
        q, k, v = (each.transpose(0, 1)[None] for each in (query, key, value))
        return sdpa(q, k, v, mask_TT)[0].transpose(0, 1)

    def padded() -> Tensor:
        q, k, v = (
            each.new_zeros(len(lengths) * longest, *each.shape[1:])
            .index_copy(0, padded_T, each)
            .unflatten(0, (-1, longest))
            .transpose(1, 2)
            for each in (query, key, value)
        )
        return sdpa(q, k, v).transpose(1, 2).flatten(0, 1).index_select(0, padded_T)

    def by_document() -> Tensor:
        heads_first = (each.transpose(0, 1)[None].split(lengths, dim=2) for each in (query, key, value))
        return torch.cat([sdpa(q, k, v)[0].transpose(0, 1) for q, k, v in zip(*heads_first, strict=True)])

    def both_ways(forward: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(forward(), (query, key, value), dout)

    contenders = {
        "sdpa, mask of the pack": both_ways(dense),
        "sdpa, padded": both_ways(padded),
        "sdpa, document by document": both_ways(by_document),
        "attention": both_ways(lambda: attention(query, key, value, documents)),
    }
    if device.type == "cuda":
        contenders["padded, compiled"] = both_ways(torch.compile(padded))
    # Two products forward and five backward, over the half of the scores that a causal query sees.
    flops = 7 * heads * size * sum(length * (length + 1) for length in lengths)
    title = f"{num_tokens} tokens, documents of {mean} on average, {heads}/{groups} heads of {size}, {dtype}"
    return Case(title, contenders, "sdpa, mask of the pack", dtype, flops=flops)


if __name__ == "__main__":
    main(Path(__file__).parent.parent / "tests" / "test_kernels_attention.py", cases)
