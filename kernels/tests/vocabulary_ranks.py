"""What each rank of `test_kernels_linear_cross_entropy_group.py` does: a module, so that spawned processes find it."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from swift_kernels import linear_cross_entropy, linear_logps_and_entropy, linear_token_logps
from torch import Tensor

SHARES = (13, 8)  # rows of the head on each rank, on purpose not the same number
NUM_ROWS, WIDTH = 7, 5
SMOOTHING, Z_LOSS = 0.2, 0.02


def inputs() -> dict[str, Tensor]:
    """Return the whole problem, the same on every rank."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = sum(SHARES)
    return {
        "hidden": torch.randn(NUM_ROWS, WIDTH, dtype=torch.float64, generator=generator),
        "head": torch.randn(vocabulary, WIDTH, dtype=torch.float64, generator=generator),
        "bias": torch.randn(vocabulary, dtype=torch.float64, generator=generator),
        # Both ranks own labels: 12 is the last of the first, 13 the first of the second.
        "labels": torch.tensor([0, 12, 13, 20, 5, 17, 3]),
        "weights": torch.tensor([1.0, 0.5, 0.0, 2.0, -1.0, 0.0, 3.0]),
    }


def compute(
    start: int,
    stop: int,
    group: dist.ProcessGroup | None,
    *,
    trained: bool,
    soft_cap: float | None,
    known: bool,
    biased: bool,
) -> dict[str, Tensor]:
    """Return values and gradients over rows `start` to `stop` of the head."""
    all_of = inputs()
    hidden_ND = all_of["hidden"].requires_grad_()
    head_VD = all_of["head"][start:stop].clone().requires_grad_(trained)
    bias_V = all_of["bias"][start:stop].clone().requires_grad_(trained) if biased else None
    labels_N, weights_N = all_of["labels"], all_of["weights"]
    logps_N, entropies_N = linear_logps_and_entropy(
        hidden_ND.detach(),
        head_VD.detach(),
        labels_N,
        bias_V=bias_V,
        soft_cap=soft_cap,
        group=group,
        vocabulary_start=start,
    )
    if known:
        loss = linear_cross_entropy(
            hidden_ND,
            head_VD,
            labels_N,
            weights_N,
            bias_V=bias_V,
            soft_cap=soft_cap,
            group=group,
            vocabulary_start=start,
            label_smoothing=SMOOTHING,
            z_loss=Z_LOSS,
        )
    else:
        values_N = linear_token_logps(
            hidden_ND,
            head_VD,
            labels_N,
            bias_V=bias_V,
            soft_cap=soft_cap,
            group=group,
            vocabulary_start=start,
            label_smoothing=SMOOTHING,
            z_loss=Z_LOSS,
        )
        loss = -(weights_N * values_N).sum()
    (loss / 3).backward()
    found = {"logps": logps_N.detach(), "entropies": entropies_N, "loss": loss.detach(), "hidden": hidden_ND.grad}
    if trained:
        found["head"] = head_VD.grad
        found["bias"] = None if bias_V is None else bias_V.grad
    return {name: value for name, value in found.items() if value is not None}


CASES = {
    "frozen": {"trained": False, "soft_cap": None, "known": False, "biased": False},
    "frozen, bias": {"trained": False, "soft_cap": None, "known": False, "biased": True},
    "frozen, capped": {"trained": False, "soft_cap": 2.0, "known": False, "biased": False},
    "trained, known": {"trained": True, "soft_cap": None, "known": True, "biased": True},
    "trained, unknown": {"trained": True, "soft_cap": 2.0, "known": False, "biased": True},
}


def run(rank: int, directory: str) -> None:
    """Compute every case as one of the ranks and save what came out."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=len(SHARES))
    start = sum(SHARES[:rank])
    group = dist.group.WORLD
    for name, options in CASES.items():
        found = compute(start, start + SHARES[rank], group, **options)  # type: ignore[arg-type]  # a table of mixed values
        torch.save(found, f"{directory}/{name}-{rank}.pt")
    dist.destroy_process_group()
