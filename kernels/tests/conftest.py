"""Tests of kernels share `aot.py`, beside this file, and test the benchmarks' `harness.py`."""

import sys
import zlib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench")]


@pytest.fixture(autouse=True)
def inputs_of_its_own(request: pytest.FixtureRequest) -> None:
    """Each test draws other inputs than the next, and the same in every run."""
    import torch

    torch.manual_seed(zlib.crc32(request.node.nodeid.rpartition("/")[2].encode()))
