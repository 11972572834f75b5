"""A vocabulary spread over two processes gives what one process gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from swift_kernels import linear_token_logps_reference
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from vocabulary_ranks import CASES, SHARES, compute, inputs, run


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("ranks")
    spawn(run, args=(str(where),), nprocs=len(SHARES))
    return where


def load(directory: Path, name: str, rank: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(directory / f"{name}-{rank}.pt", weights_only=True)
    return found


@pytest.mark.parametrize("name", list(CASES))
def test_two_ranks_equal_one(directory: Path, name: str) -> None:
    alone = compute(0, sum(SHARES), None, **CASES[name])  # type: ignore[arg-type]  # a table of mixed values
    ranks = [load(directory, name, rank) for rank in range(len(SHARES))]
    for quantity, expected in alone.items():
        parts = [found[quantity] for found in ranks]
        if quantity in ("head", "bias"):
            parts = [torch.cat(parts)]
        for part in parts:
            torch.testing.assert_close(part, expected, atol=1e-12, rtol=1e-12)  # float64, summed in another order


def test_ranks_agree_to_the_last_bit(directory: Path) -> None:
    for name in CASES:
        first, second = (load(directory, name, rank) for rank in range(len(SHARES)))
        for quantity in ("logps", "entropies", "loss", "hidden"):
            assert torch.equal(first[quantity], second[quantity]), (name, quantity)


def test_the_values_are_those_of_the_reference(directory: Path) -> None:
    all_of = inputs()
    expected_N = linear_token_logps_reference(all_of["hidden"], all_of["head"], all_of["labels"], bias_V=all_of["bias"])
    logps_N = load(directory, "frozen, bias", 0)["logps"]
    torch.testing.assert_close(logps_N, expected_N, atol=1e-12, rtol=1e-12)  # as above
