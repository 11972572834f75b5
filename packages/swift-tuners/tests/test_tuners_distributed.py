"""Every registered tuner makes the same step on two processes as on one."""

from __future__ import annotations

import pytest
from swift_tuners import TUNERS
from swift_tuners.testing.distributed import Strategy, check_distributed


def names() -> list[str]:
    laws = {name: TUNERS.load_class(name).laws for name in TUNERS.names()}
    return [name for name, each in laws.items() if each.has_parameters and "decoder" in each.models]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero3"])
def test_two_processes_step_as_one_does(strategy: Strategy) -> None:
    if strategy == "zero3":
        pytest.importorskip("deepspeed")
    check_distributed(names(), strategy)
