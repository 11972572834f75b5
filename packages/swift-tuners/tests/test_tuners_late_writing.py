"""Weights that are collected now and written later are those of now."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from swift_tuners import Swift
from swift_tuners.late_writing import collect_writes, take_snapshot, write_snapshot, write_weights
from swift_tuners.tuners.full import FullConfig
from swift_tuners.tuners.lisa import LISAConfig
from swift_tuners.weights import read_safetensors
from torch import nn


def test_collected_writes_are_of_the_moment_and_happen_when_they_are_called(tmp_path: Path) -> None:
    weight = torch.zeros(2, 3)
    with collect_writes() as writes:
        write_weights({"a": weight, "b": weight[0]}, tmp_path / "a.safetensors")
        assert list(tmp_path.iterdir()) == []
    weight.fill_(1)
    write_weights({"a": weight}, tmp_path / "b.safetensors")
    (write,) = writes
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert read_safetensors(tmp_path / "a.safetensors")["a"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert read_safetensors(tmp_path / "a.safetensors")["b"].tolist() == [0, 0, 0]
    assert read_safetensors(tmp_path / "b.safetensors")["a"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_nested_collection_and_other_threads_are_apart(tmp_path: Path) -> None:
    def write_elsewhere() -> None:
        write_weights({"a": torch.zeros(1)}, tmp_path / "elsewhere.safetensors")

    with collect_writes() as outer:
        with collect_writes() as inner:
            write_weights({"a": torch.zeros(1)}, tmp_path / "inner.safetensors")
        write_weights({"a": torch.zeros(1)}, tmp_path / "outer.safetensors")
        thread = threading.Thread(target=write_elsewhere)
        thread.start()
        thread.join()
    assert len(outer) == len(inner) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["elsewhere.safetensors"]


def test_a_tensor_in_another_order_of_memory_is_written_as_it_reads(tmp_path: Path) -> None:
    snapshot = take_snapshot({"t": torch.arange(6).view(2, 3).t()})
    write_snapshot(snapshot, tmp_path / "t.safetensors")
    assert read_safetensors(tmp_path / "t.safetensors")["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_disk_that_refuses_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing/a\.safetensors' cannot be written"):
        write_snapshot({"a": torch.zeros(1)}, tmp_path / "missing" / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


class Block(nn.Module):
    """A layer as LISA looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.inner(x))


class Stack(nn.Module):
    """Three of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "config", [FullConfig(), LISAConfig(activated_layers=1, step_interval=2)], ids=["full", "lisa"]
)
def test_a_tuner_that_is_saved_late_is_saved_as_it_was(tmp_path: Path, config: FullConfig | LISAConfig) -> None:
    model = Swift.prepare_model(Stack(), config)
    model.save_pretrained(tmp_path / "now")
    with collect_writes() as writes:
        model.save_pretrained(tmp_path / "late")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.on_step(1)
    for write in writes:
        write()
    now, late = ({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()} for name in ("now", "late"))
    assert now == late
