"""In which type a CPU multiplies matrices fastest.

bfloat16 is twice as fast as float32 only where the CPU has a matrix unit for it (AMX). Without one, oneDNN's bfloat16
products run at half the speed of float32, or are emulated, and casting both factors in the kernel, rounding once at
the end, is faster and more exact.
"""

from __future__ import annotations

import functools

import torch


def matmul_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type in which to multiply matrices of type `dtype`.

    The answer depends on what the CPU has and on nothing that is timed, so that a run and its resumption compute alike.

    Args:
        dtype: type of the factors as they are stored.
        device: where they are; only a CPU's answer may differ from `dtype`.
    """
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return dtype
    return dtype if _has_matrix_unit(dtype) else torch.float32


@functools.cache
def _has_matrix_unit(dtype: torch.dtype) -> bool:
    # Measured on one core of a Xeon with AVX512_BF16 and without AMX (torch 2.13), 2048x576x1536: bfloat16 97 GFLOP/s,
    # float32 190, float32 with all casts 165. ARM's bfloat16 instructions are left to torch, as written, never run.
    if not torch.backends.cpu.get_cpu_capability().startswith(("AVX", "DEFAULT")):
        return True
    ask = "_is_amx_tile_supported" if dtype == torch.bfloat16 else "_is_amx_fp16_supported"
    return bool(getattr(torch.cpu, ask, lambda: False)())
