"""Every algorithm keeps the laws, and the laws catch one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from swift_data import load_rows
from swift_data.args import DataArgs
from swift_templates import Template
from swift_train import WeightedTokens
from swift_train.algorithm import ALGORITHMS
from swift_train.algorithms.sft import Sft
from swift_train.testing import check_algorithm


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_algorithm_keeps_the_laws(name: str, model_folder: Path, rows_file: Path) -> None:
    rows = load_rows([str(rows_file)], DataArgs()).rows
    check_algorithm(ALGORITHMS.load_class(name)(), rows, Template.from_folder(model_folder))


class MeanSft(Sft):
    """Divides by its own tokens, which makes the result depend on the split."""

    def loss(self, tokens: WeightedTokens) -> torch.Tensor:
        """Return a mean where a sum is due."""
        return super().loss(tokens) / len(tokens.logps_N)


class UnweightedSft(Sft):
    """Forgets the weights."""

    def loss(self, tokens: WeightedTokens) -> torch.Tensor:
        """Return a loss that fillers change."""
        return -tokens.logps_N.sum()


@pytest.mark.parametrize("broken", [MeanSft, UnweightedSft])
def test_a_broken_algorithm_is_caught(broken: type[Sft], model_folder: Path, rows_file: Path) -> None:
    rows = load_rows([str(rows_file)], DataArgs()).rows
    with pytest.raises(AssertionError):
        check_algorithm(broken(), rows, Template.from_folder(model_folder))


def test_sft_is_the_weighted_sum_by_hand() -> None:
    tokens = WeightedTokens(
        logps_N=torch.tensor([-1.0, -2.0]), weights_N=torch.tensor([1.0, 0.5]), sequences_N=torch.tensor([0, 0])
    )
    assert Sft().loss(tokens).item() == 2.0  # 1 * 1 + 0.5 * 2
