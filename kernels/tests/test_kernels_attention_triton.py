"""The Triton kernels of attention: in the interpreter against float64, and compiled for GPUs that aren't there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

pytest.importorskip("triton")
from aot import SHARED_BYTES, TARGETS, Target, compile_ahead
from swift_kernels import Documents, attention_tables, attention_triton, attention_triton_kernels
from swift_kernels.attention_documents import Scoring

Name = Literal["forward", "query_gradient", "key_gradient"]


@pytest.mark.parametrize(
    ("which", "num_cases"), [("few", 2 + 2 * 6 * 2), pytest.param("all", 2 + 5 * 6 * 2, marks=pytest.mark.slow)]
)
def test_interpreted_kernels_match_float64(which: str, num_cases: int) -> None:
    program = Path(__file__).with_name("attention_interpreted.py")
    ran = subprocess.run([sys.executable, str(program), which], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, str] = json.loads(ran.stdout)
    assert len(found) == num_cases
    assert {case: wrong for case, wrong in found.items() if wrong} == {}


def test_heads_larger_than_256_are_refused() -> None:
    query = torch.zeros(2, 1, 264)
    with pytest.raises(ValueError, match="heads of size 264; the GPU kernels compute sizes up to 256"):
        attention_triton.forward(query, query, query, Documents.whole(2), Scoring(1.0))


def test_the_table_of_queries_lists_blocks_of_queries_that_see_a_key() -> None:
    # Two documents: 5 queries on 3 keys, so that the first two see none; 2 queries on 4 keys and a prefix of 3.
    documents = Documents((0, 5), (5, 7), (0, 6), (3, 10), (0, 0), (0, 3))
    table = attention_tables.query_table(documents, True, 2, torch.device("cpu"))
    assert table.tolist() == [
        [5, 2, 5, 0, 3, 6, 4, 0],
        [4, 1, 2, 0, 0, 0, 3, 0],
        [2, 2, 0, 0, 0, 0, 3, 0],
    ]


def test_the_table_of_keys_lists_who_sees_each_block() -> None:
    # A prefix of 3 with branches of 2 and 1. Places: the branches' own keys come behind the prefix.
    blocks, visits = attention_tables.key_table(Documents.from_branches([(3, [2, 1])]), 2, torch.device("cpu"))
    assert blocks.tolist() == [[0, 2, 0, 3], [2, 1, 3, 6], [3, 2, 6, 7], [5, 1, 7, 8]]
    assert visits.tolist() == [
        [0, 3, 0, 0], [3, 5, 3, 0], [5, 6, 3, 0],
        [0, 3, 0, 2], [3, 5, 3, 2], [5, 6, 3, 2],
        [3, 5, 3, 3],
        [5, 6, 3, 3],
    ]  # fmt: skip


KERNELS = {
    "forward": attention_triton_kernels.forward_kernel,
    "query_gradient": attention_triton_kernels.query_gradient_kernel,
    "key_gradient": attention_triton_kernels.key_gradient_kernel,
}
# What each kernel points to beside query, key and value; `*` is the type of those.
POINTERS = {
    "forward": {"out": "*", "lse": "*fp32", "table": "*i32"},
    "query_gradient": {"dout": "*", "lse": "*fp32", "delta": "*fp32", "dquery": "*", "table": "*i32"},
    "key_gradient": {
        "dout": "*",
        "lse": "*fp32",
        "delta": "*fp32",
        "dkey": "*",
        "dvalue": "*",
        "blocks": "*i32",
        "visits": "*i32",
    },
}
# A thread has 255 registers on NVIDIA; on AMD 512 where a block has 4 warps, 256 where it has 8.
REGISTERS: dict[Target, int] = {"sm_80": 255, "sm_90": 255, "sm_100": 255, "gfx942": 512}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)], ids=["bf16", "fp32"])
def test_each_launch_compiles_without_spills(
    kind: str, dtype: torch.dtype, size: int, name: Name, target: Target
) -> None:
    check_launch(kind, dtype, size, name, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_heads_of_64_in_bfloat16_compile_without_spills(name: Name, target: Target) -> None:
    instructions = check_launch("bf16", torch.bfloat16, 64, name, target)
    expected = {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "tcgen05.mma", "gfx942": "v_mfma_f32_"}[target]
    assert any(each.startswith(expected) for each in instructions)


def check_launch(kind: str, dtype: torch.dtype, size: int, name: Name, target: Target) -> tuple[str, ...]:
    """Compile a kernel as it is launched, windows and caps on, and return its matrix instructions."""
    launch = getattr(attention_triton.launches(dtype, size, amd=target == "gfx942"), name)
    pointers = dict.fromkeys(("query", "key", "value"), f"*{kind}")
    pointers |= {each: f"*{kind}" if pointed == "*" else pointed for each, pointed in POINTERS[name].items()}
    strided = ("query", "key", "value") if name == "forward" else ("query", "key", "value", "dout")
    strides = {f"{each}_{suffix}": "i32" for each in strided for suffix in ("stride", "head_stride")}
    numbers = {"num_heads": "i32", "scale": "fp32", "soft_cap": "fp32", "window": "i32"}
    constants = attention_triton.constants(
        (8 * 4, 8), (size, size), Scoring(0.1, True, 9, 5.0), launch, num_fields=4 if name == "key_gradient" else 8
    )
    info = compile_ahead(
        KERNELS[name],
        pointers | strides | numbers,
        {each: constant for each, constant in constants.items() if each not in ("num_warps", "num_stages")},
        target,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        unaligned=("num_heads", "window"),
    )
    assert info.spills == 0
    assert info.registers <= REGISTERS[target]
    assert info.shared_bytes <= SHARED_BYTES[target]
    return info.matrix_instructions
