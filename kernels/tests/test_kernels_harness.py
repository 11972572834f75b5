"""The benchmarks' harness measures what it says, and not before the tests are green."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from harness import Case, Peaks, Timing, measure, print_table, require_green

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("body", "reason"),
    [("def test_wrong() -> None:\n    assert 1 == 2\n", "1 == 2"), ("", "no tests ran")],
    ids=["red", "none"],
)
def test_nothing_is_timed_while_tests_are_red_or_missing(tmp_path: Path, body: str, reason: str) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(body, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"nothing is timed while test_it\.py is red") as caught:
        require_green(file)
    assert reason in str(caught.value)
    file.write_text("def test_right() -> None:\n    pass\n", encoding="utf-8")
    require_green(file)


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    found = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, CPU, rounds=3)
    assert "".join(calls) == "aabb" + "ababab"  # to warm up and to watch the memory, then by turns
    assert all(0 <= each.best_s <= each.median_s for each in found.values())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_peak_memory_is_what_a_call_needs_at_most_and_not_what_it_keeps() -> None:
    def call() -> None:
        torch.ones(8 << 20).sum()  # 32 MiB, gone afterwards

    found = measure({"call": call}, CPU, rounds=1)["call"]
    assert 30 << 20 <= found.peak_bytes <= 40 << 20


def test_a_table_tells_ratios_and_shares_of_the_measured_peak(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("title", {"slow": lambda: None, "fast": lambda: None}, "slow", torch.float32, flops=2e9, num_bytes=1e9)
    timings = {"slow": Timing(0.2, 0.1, 1 << 20), "fast": Timing(0.1, 0.05, 3 << 19)}
    print_table(case, timings, Peaks(flops_s=40e9, bytes_s=20e9))
    *_, slow, fast = capsys.readouterr().out.splitlines()
    # By hand: 2 GFLOP in 0.2 s are 10 GFLOP/s, a quarter of 40; 1 GB in 0.2 s are 5 GB/s, a quarter of 20.
    assert slow.split() == ["slow", "200.00", "ms", "100.00", "ms", "1.00x", "10.0", "25%", "5.0", "25%", "1.0", "MiB"]
    assert fast.split() == ["fast", "100.00", "ms", "50.00", "ms", "2.00x", "20.0", "50%", "10.0", "50%", "1.5", "MiB"]
