"""What the ahead-of-time compiler says of kernels whose needs are known."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402  # after the skip
from aot import TARGETS, Target, compile_ahead  # noqa: E402


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def copy_kernel(x_ptr: tl.tensor, y_ptr: tl.tensor, size: tl.tensor, BLOCK: tl.constexpr) -> None:
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < size), mask=offsets < size)


@triton.jit  # type: ignore[untyped-decorator]  # as above
def product_kernel(x_ptr: tl.tensor, y_ptr: tl.tensor, SIZE: tl.constexpr) -> None:
    offsets = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    x = tl.load(x_ptr + offsets)
    tl.store(y_ptr + offsets, tl.dot(x, tl.trans(x)))


COPY = {"x_ptr": "*fp32", "y_ptr": "*fp32", "size": "i32"}
PRODUCT = {"x_ptr": "*bf16", "y_ptr": "*fp32"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_copy_needs_few_registers_and_no_shared_memory(target: Target) -> None:
    info = compile_ahead(copy_kernel, COPY, {"BLOCK": 1024}, target)
    # 4 warps are 128 threads of 8 values, or on AMD 256 of 4; then their addresses.
    assert (4 if target == "gfx942" else 8) <= info.registers <= 48
    assert (info.spills, info.shared_bytes, info.matrix_instructions) == (0, 0, ())


def test_a_block_of_16_values_a_thread_needs_more_registers_than_one_of_4() -> None:
    few, many = (compile_ahead(copy_kernel, COPY, {"BLOCK": block}, "sm_80").registers for block in (512, 2048))
    assert many >= few + 8


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("sm_80", "mma.sync"), ("sm_90", "wgmma"), ("sm_100", "tcgen05.mma"), ("gfx942", "v_mfma_f32_")],
)
def test_a_product_uses_the_matrix_unit_and_spills_where_it_is_too_large(target: Target, instruction: str) -> None:
    info = compile_ahead(product_kernel, PRODUCT, {"SIZE": 64}, target)
    assert any(each.startswith(instruction) for each in info.matrix_instructions)
    assert info.spills == 0
    # A 128x128 product of float32 in one warp is 512 values a thread, of 255 registers.
    if target == "sm_80":
        assert compile_ahead(product_kernel, PRODUCT, {"SIZE": 128}, target, num_warps=1).spills > 0


def test_a_wrong_signature_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"the arguments are \['BLOCK', 'size', 'x_ptr', 'y_ptr'\]"):
        compile_ahead(copy_kernel, {"x_ptr": "*fp32"}, {"BLOCK": 64}, "sm_80")


def test_the_compiler_goes_on_after_a_refusal() -> None:
    with pytest.raises(RuntimeError, match="arange's range must be a power of 2"):
        compile_ahead(copy_kernel, COPY, {"BLOCK": 1000}, "sm_80")
    assert compile_ahead(copy_kernel, COPY, {"BLOCK": 512}, "sm_80").registers > 0
