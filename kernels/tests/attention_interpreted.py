"""Run the Triton kernels of attention in Triton's interpreter and print which cases differ from the reference.

The interpreter is chosen when triton is imported, and would change triton for every other test: so this is a program,
which `test_kernels_attention_triton.py` runs in a process of its own. It prints one JSON object: case, then what is
wrong, nothing where all is right.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable

os.environ["TRITON_INTERPRET"] = "1"

import torch  # after the choice
from swift_kernels import Documents, attention_reference, attention_triton
from swift_kernels.attention import BlockAttention
from swift_kernels.attention_documents import Scoring
from swift_kernels.testing import check_kernel
from torch import Tensor

# The interpreter is wrong for bfloat16. Sums are float32; what is stored, and float16's probabilities, are rounded to
# eps of the type, 1e-7 and 1e-3, and a few such roundings meet.
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3}

# Documents, queries, keys: lengths of 0 and 1, around the size of a block, more keys than queries and the other way
# round, rows of no document, shared prefixes.
ROWS = {
    "odd lengths": (Documents.from_cu_seqlens([0, 1, 1, 8, 100, 101]), 101, 101),
    "more keys": (Documents.from_cu_seqlens([0, 5, 70], [0, 9, 110]), 73, 111),
    "more queries": (Documents.from_cu_seqlens([0, 50, 70], [0, 9, 30]), 79, 31),
    "branches": (Documents.from_branches([(70, [1, 40]), (3, [0, 5])]), 119, 119),
    "keys nobody sees": (Documents((3, 20), (11, 40), (5, 20), (10, 33), (0, 11), (0, 19)), 45, 38),
    "none": (Documents((), (), (), ()), 3, 2),
}
SCORINGS = {
    "causal": Scoring(0.2),
    "all see all": Scoring(0.2, causal=False),
    "window": Scoring(0.2, window=20),
    "soft cap": Scoring(0.2, soft_cap=2.0),
    "all options": Scoring(0.7, window=3, soft_cap=3.0),
}
FEW = ("causal", "all options")


def _joined(out: Tensor, lse: Tensor) -> Tensor:
    """Output and log-sum-exp as one tensor, so that both are compared and differentiated; -inf as 0."""
    return torch.cat([out.to(lse.dtype), lse.masked_fill(lse == -math.inf, 0.0)[..., None]], dim=-1)


def _kernel(documents: Documents, scoring: Scoring) -> Callable[..., Tensor]:
    apply: Callable[..., tuple[Tensor, Tensor]] = BlockAttention.apply
    return lambda *given: _joined(*apply(*given, documents, scoring, attention_triton))


def _reference(documents: Documents, scoring: Scoring) -> Callable[..., Tensor]:
    return lambda query, key, value: _joined(
        *attention_reference(query, key, value, documents, **scoring._asdict())  # the names are the same
    )


def _inputs(num_queries: int, num_keys: int, sizes: tuple[int, int], dtype: torch.dtype) -> list[Tensor]:
    shapes = [(num_queries, 4, sizes[0]), (num_keys, 2, sizes[0]), (num_keys, 2, sizes[1])]
    return [torch.randn(shape).to(dtype) for shape in shapes]


def _wrong(kernel: Callable[..., Tensor], reference: Callable[..., Tensor], given: list[Tensor]) -> str:
    try:
        check_kernel(kernel, reference, given, tolerance=TOLERANCE[given[0].dtype])
    except AssertionError as error:
        return str(error)
    return ""


def _strides() -> str:
    """Slices of one fused projection, and values whose head is not dense."""
    documents, scoring = Documents.from_cu_seqlens([0, 20, 60]), SCORINGS["causal"]

    def split(fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return fused[:, :4], fused[:, 4:6], fused[:, 6:].transpose(1, 2).contiguous().transpose(1, 2)

    return _wrong(
        lambda fused: _kernel(documents, scoring)(*split(fused)),
        lambda fused: _reference(documents, scoring)(*split(fused)),
        [torch.randn(60, 8, 16)],
    )


def _repeated() -> str:
    documents, num_queries, num_keys = ROWS["branches"]
    given, runs = _inputs(num_queries, num_keys, (16, 16), torch.float32), []
    for _ in range(2):
        leaves = [each.clone().requires_grad_() for each in given]
        _kernel(documents, SCORINGS["causal"])(*leaves).square().sum().backward()
        runs.append([each.grad for each in leaves])
    equal = all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(*runs, strict=True))
    return "" if equal else "gradients of two runs differ"


def main(names: tuple[str, ...]) -> None:
    """Print every case of these scorings."""
    torch.manual_seed(0)
    found = {"strides": _strides(), "repeated": _repeated()}
    for name in names:
        for row, (documents, num_queries, num_keys) in ROWS.items():
            for dtype in (torch.float32, torch.float16):
                # Sizes that are no powers of two are padded.
                sizes = (16, 16) if dtype == torch.float16 else (24, 40)
                given = _inputs(num_queries, num_keys, sizes, dtype)
                case = f"{row}, {name}, {str(dtype).removeprefix('torch.')}"
                found[case] = _wrong(_kernel(documents, SCORINGS[name]), _reference(documents, SCORINGS[name]), given)
    print(json.dumps(found))


if __name__ == "__main__":
    main(FEW if sys.argv[1] == "few" else tuple(SCORINGS))
