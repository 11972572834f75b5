"""Tests of kernels share `aot.py`, beside this file, and test the benchmarks' `harness.py`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench")]
