"""Run the Triton kernels of cross entropy in Triton's interpreter and print how far each is from its reference.

The interpreter is chosen when triton is imported, and would change triton for every other test: so this is a program,
which `test_kernels_cross_entropy_triton.py` runs in a process of its own. It prints one JSON object: case, then
quantity, then the largest difference from float64, relative to the largest value.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch  # after the choice
from swift_kernels import linear_cross_entropy_rows
from swift_kernels.cross_entropy import LossTerms
from swift_kernels.cross_entropy_triton import (
    BLOCK,
    TRITON,
    row_gradient_reference,
    row_gradient_triton,
    row_statistics_reference,
    row_statistics_triton,
)
from swift_kernels.linear_cross_entropy import linear_token_logps_reference
from swift_kernels.linear_cross_entropy_rows import Projection, Wanted, walk_rows
from swift_kernels.testing import poisoned_memory
from torch import Tensor

TERMS = {
    "plain": LossTerms(),
    "smoothed": LossTerms(label_smoothing=0.1),
    "z-loss": LossTerms(z_loss=0.01),
    "capped": LossTerms(soft_cap=3.0),
    "all": LossTerms(label_smoothing=0.2, z_loss=0.02, soft_cap=5.0),
}
SHAPES = [(1, 2), (7, 33), (3, BLOCK), (5, 2 * BLOCK + 3)]


def _difference(value: Tensor | None, expected: Tensor | None, *, least: float = 1e-30) -> float:
    assert (value is None) == (expected is None), "one of the two is missing"
    if value is None or expected is None:
        return 0.0
    assert value.shape == expected.shape, (value.shape, expected.shape)
    return float((value.double() - expected.double()).abs().max() / expected.abs().max().clamp_min(least))


def _rows(logits_RV: Tensor, terms: LossTerms, out_dtype: torch.dtype) -> dict[str, float]:
    num_rows, vocabulary = logits_RV.shape
    labels_R = torch.randint(vocabulary, (num_rows,))
    if num_rows > 1:
        labels_R[1] = -1  # lies on another rank
    scale_R = torch.randn(num_rows)
    exact = row_statistics_reference(logits_RV.double(), labels_R, terms, entropy=True)
    total = 2 * vocabulary
    expected_RV = row_gradient_reference(
        logits_RV.double(), labels_R, exact.log_sums_R, scale_R.double(), terms, vocabulary=total
    )
    with poisoned_memory():
        stats = row_statistics_triton(logits_RV, labels_R, terms, entropy=True)
        gradient_RV = row_gradient_triton(
            logits_RV,
            labels_R,
            stats.log_sums_R,
            scale_R,
            terms,
            vocabulary=total,
            out_RV=torch.empty(num_rows, vocabulary, dtype=out_dtype),
        )
    found = {name: _difference(*each) for name, *each in zip(stats._fields, stats, exact, strict=True)}
    # softmax - onehot cancels where the label is nearly certain: what is left keeps the rounding of 1, times the scale.
    return {**found, "gradient": _difference(gradient_RV, expected_RV, least=float(scale_R.abs().max()))}


def _in_place() -> dict[str, float]:
    logits_RV, labels_R, scale_R = torch.randn(4, BLOCK + 1), torch.tensor([0, BLOCK, 7, -1]), torch.ones(4)
    terms = TERMS["all"]
    log_sums_R = row_statistics_triton(logits_RV, labels_R, terms).log_sums_R
    expected_RV = row_gradient_reference(
        logits_RV.double(), labels_R, log_sums_R.double(), scale_R.double(), terms, vocabulary=BLOCK + 1
    )
    gradient_RV = row_gradient_triton(
        logits_RV, labels_R, log_sums_R, scale_R, terms, vocabulary=BLOCK + 1, out_RV=logits_RV
    )
    return {"gradient": _difference(gradient_RV, expected_RV)}


def _masked_block() -> dict[str, float]:
    logits_RV = torch.randn(2, 3 * BLOCK)
    logits_RV[:, :BLOCK] = -torch.inf
    logits_RV[:, -BLOCK:] = -torch.inf
    labels_R = torch.tensor([BLOCK, BLOCK + 5])
    log_sums_R = row_statistics_triton(logits_RV, labels_R, LossTerms()).log_sums_R
    return {"log_sums_R": _difference(log_sums_R, torch.logsumexp(logits_RV.double(), dim=-1))}


def _head_and_loss() -> dict[str, float]:
    """The walk that a GPU takes, with the rows by Triton; three chunks, the last one shorter, and all gradients."""
    num_rows, width, vocabulary = 9, 16, 70
    hidden_ND, head_VD = torch.randn(num_rows, width), torch.randn(vocabulary, width)
    bias_V, scale_N = torch.randn(vocabulary), torch.randn(num_rows)
    labels_N = torch.randint(vocabulary, (num_rows,))
    linear_cross_entropy_rows.CHUNK_FLOATS = 4 * vocabulary
    terms = TERMS["all"]
    leaves = [each.double().requires_grad_() for each in (hidden_ND, head_VD, bias_V)]
    expected_N = linear_token_logps_reference(
        leaves[0], leaves[1], labels_N, bias_V=leaves[2], label_smoothing=0.2, z_loss=0.02, soft_cap=5.0
    )
    expected_ND = torch.autograd.grad(expected_N.sum(), leaves[0], retain_graph=True)[0]
    expected_VD, expected_V = torch.autograd.grad((expected_N * scale_N).sum(), leaves[1:])
    with poisoned_memory():
        outcome = walk_rows(
            Projection(hidden_ND, head_VD, bias_V, labels_N, terms, vocabulary, None),
            Wanted(hidden=True, head=True, bias=True, entropy=False),
            scale_N=scale_N,
            kernels=TRITON,
        )
        values_N = terms.values(outcome.stats, vocabulary)
    return {
        "values": _difference(values_N, expected_N.detach()),
        "hidden": _difference(outcome.hidden_gradient_ND, expected_ND),
        "head": _difference(outcome.head_gradient_VD, expected_VD),
        "bias": _difference(outcome.bias_gradient_V, expected_V),
    }


def main() -> None:
    """Print every case."""
    torch.manual_seed(0)
    found: dict[str, dict[str, float]] = {}
    for name, terms in TERMS.items():
        for shape in SHAPES:
            logits_RV = torch.randn(shape) * 3
            found[f"{name} float32 {shape}"] = _rows(logits_RV, terms, torch.float32)
        found[f"{name} float16"] = _rows(torch.randn(4, BLOCK + 9).half(), terms, torch.float16)
    # A column of a wider matrix has rows with gaps between them; every second value is not even dense.
    found["plain float32 gaps"] = _rows(torch.randn(3, 100)[:, 10:61], TERMS["plain"], torch.float32)
    found["plain float32 steps"] = _rows(torch.randn(3, 100)[:, ::2], TERMS["plain"], torch.float32)
    found["all float32 in place"] = _in_place()
    found["plain float32 masked block"] = _masked_block()
    found["all float32 head and loss"] = _head_and_loss()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
