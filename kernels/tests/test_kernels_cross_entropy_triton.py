"""The Triton kernels of cross entropy: right in the interpreter, and small enough for each GPU."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from aot import SHARED_BYTES, TARGETS, Target, compile_ahead  # after the skip
from swift_kernels.cross_entropy_triton import (
    BLOCK,
    NUM_WARPS,
    row_gradient_kernel,
    row_statistics_kernel,
)

TERMS = ["plain", "smoothed", "z-loss", "capped", "all"]
FLOAT32 = ["(1, 2)", "(7, 33)", "(3, 4096)", "(5, 8195)"]
CASES = [f"{terms} float32 {shape}" for terms in TERMS for shape in FLOAT32]
CASES += [f"{terms} float16" for terms in TERMS]
CASES += [f"plain float32 {each}" for each in ("gaps", "steps", "masked block")]
CASES += [f"all float32 {each}" for each in ("in place", "head and loss")]


@functools.cache
def interpreted() -> dict[str, dict[str, float]]:
    program = Path(__file__).with_name("cross_entropy_interpreted.py")
    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, dict[str, float]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_interpreted_kernels_match_float64(case: str) -> None:
    for quantity, difference in interpreted()[case].items():
        # Sums are float32 whatever comes in: a few roundings, and tanh by sigmoid is exact to 1e-7 of the cap. The sum
        # of the logits cancels to near nothing, so a small result keeps the rounding of its large terms.
        tolerance = 1e-4 if quantity == "logit_sums_R" else 5e-6
        if quantity == "gradient" and "float16" in case:
            tolerance = 1e-3  # half a unit of float16's last place, where it is stored
        assert difference <= tolerance, (quantity, difference)


def test_every_interpreted_case_is_asserted() -> None:
    assert sorted(interpreted()) == sorted(CASES)


STATISTICS = {
    "logits": "*fp32",
    "labels": "*i64",
    "log_sums": "*fp32",
    "label_logits": "*fp32",
    "logit_sums": "*fp32",
    "mean_logits": "*fp32",
    "row_stride": "i32",
    "vocabulary": "i32",
    "soft_cap": "fp32",
}
GRADIENT = {
    "logits": "*fp32",
    "labels": "*i64",
    "log_sums": "*fp32",
    "scales": "*fp32",
    "out": "*bf16",
    "row_stride": "i32",
    "out_stride": "i32",
    "vocabulary": "i32",
    "soft_cap": "fp32",
    "z_loss": "fp32",
    "label_share": "fp32",
    "uniform_share": "fp32",
}


@pytest.mark.parametrize("logits", ["*fp32", "*bf16"])
@pytest.mark.parametrize("everything", [False, True], ids=["plain", "capped, sum, mean"])
@pytest.mark.parametrize("target", TARGETS)
def test_statistics_fit_each_gpu(target: Target, everything: bool, logits: str) -> None:
    flags = dict.fromkeys(("CAPPED", "WITH_SUM", "WITH_MEAN"), everything)
    info = compile_ahead(
        row_statistics_kernel,
        {**STATISTICS, "logits": logits},
        {**flags, "BLOCK": BLOCK},
        target,
        num_warps=NUM_WARPS,
    )
    # 8 warps are 256 threads of 16 logits. At 64 registers all 2048 threads that an SM holds still fit into its 65,536.
    assert info.registers <= 64
    assert info.spills == 0
    # Only the sums over warps go through shared memory.
    assert info.shared_bytes <= 1024 < SHARED_BYTES[target]


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_gradient_fits_each_gpu(target: Target, capped: bool) -> None:
    info = compile_ahead(row_gradient_kernel, GRADIENT, {"CAPPED": capped, "BLOCK": BLOCK}, target, num_warps=NUM_WARPS)
    assert info.registers <= 64
    assert info.spills == 0
    # To turn float32 into bfloat16 a block may change its layout by way of shared memory, a float each.
    assert info.shared_bytes <= 4 * BLOCK < SHARED_BYTES[target]
