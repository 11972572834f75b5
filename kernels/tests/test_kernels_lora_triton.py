"""The low-rank Triton kernel: right in the interpreter, and small enough for each GPU."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from aot import SHARED_BYTES, TARGETS, Target, compile_ahead  # after the skip
from swift_kernels.lora_triton import BLOCK_R, GROUP, LAUNCHES, low_rank_kernel

SHAPES = ["(1, 1, 1, 1)", "(65, 70, 33, 8)", "(130, 129, 100, 16)", "(200, 64, 96, 40)"]
KERNEL_CASES = [
    f"{dtype} {shape}{transposed}{extras}"
    for dtype, shape, transposed, extras in itertools.product(
        ("float32", "float16"), SHAPES, ("", " transposed"), ("", " extras")
    )
]
STEP_CASES = [f"step p={p} one_mask={one_mask}" for p in (0.0, 0.3) for one_mask in (True, False)]


@functools.cache
def interpreted() -> dict[str, float]:
    program = Path(__file__).with_name("lora_interpreted.py")
    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, float] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("case", KERNEL_CASES)
def test_interpreted_kernel_matches_float64(case: str) -> None:
    # float32 sums of a hundred products; float16's result is rounded once, to half a unit of its last place.
    assert interpreted()[case] <= (1e-3 if "float16" in case else 2e-6)


@pytest.mark.parametrize("case", STEP_CASES)
def test_the_step_with_the_kernel_equals_the_step_without(case: str) -> None:
    assert interpreted()[case] <= 5e-6  # float32 sums in another order


def test_a_whole_mask_equals_its_pieces() -> None:
    assert interpreted()["whole mask"] == 0.0


def test_every_interpreted_case_is_asserted() -> None:
    assert sorted(interpreted()) == sorted([*KERNEL_CASES, *STEP_CASES, "whole mask"])


INTEGERS = ["num_rows", "num_columns", "num_features", "num_ranks", "x_row", "w_row", "h_row", "b_row"]
INTEGERS += ["x_step", "w_step", "h_step", "b_step", "keep_row", "out_row"]
# What lies side by side has the stride 1, as Triton knows of a launch; ranks are no multiple of 16.
FORWARD = {"x_step": 1, "w_step": 1, "h_step": 1, "b_step": 1}
BACKWARD = {"x_step": 1, "w_row": 1, "h_step": 1, "b_row": 1}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_kernel_fits_without_spills_and_uses_the_matrix_unit(target: Target, dtype: str, direction: str) -> None:
    launch = LAUNCHES[4 if dtype == "fp32" else 2]
    ones = FORWARD if direction == "forward" else BACKWARD
    pointers = dict.fromkeys(("x", "w", "h", "b", "bias", "keep", "out"), f"*{dtype}")
    signature = pointers | {name: "i32" for name in INTEGERS if name not in ones} | {"scaling": "fp32"}
    constants = {
        "HAS_BIAS": direction == "forward",
        "HAS_KEEP": direction == "backward",
        "ACCUMULATE": direction == "backward",
        "BLOCK_M": launch.block_m,
        "BLOCK_N": launch.block_n,
        "BLOCK_K": launch.block_k,
        "BLOCK_R": BLOCK_R,
        "GROUP": GROUP,
    }
    info = compile_ahead(
        low_rank_kernel,
        signature,
        ones | constants,
        target,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        unaligned=["num_ranks", *(name for name in ("h_row", "b_row", "b_step") if name not in ones), "num_rows"],
    )
    assert info.spills == 0
    assert info.registers <= 255
    assert info.shared_bytes <= SHARED_BYTES[target] // 2  # two blocks on a multiprocessor
    if dtype == "bf16":
        assert info.matrix_instructions
