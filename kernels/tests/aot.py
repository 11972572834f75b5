"""Compile a Triton kernel for a GPU that isn't there, and tell what it needs of it.

Registers, spilled bytes and shared memory are known after compilation, so a kernel that outgrows a GPU is found on any
machine. The compiler works in one process of its own: the tests' process has Triton's interpreter on, under which a
kernel can't be compiled.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

Target = Literal["sm_80", "sm_90", "sm_100", "gfx942"]
TARGETS: tuple[Target, ...] = ("sm_80", "sm_90", "sm_100", "gfx942")

# Shared memory that one block may have, in bytes. Source: CUDA C++ Programming Guide, table of technical specifications
# (8.0: 163 KB, 9.0 and 10.0: 227 KB); AMD CDNA 3 ISA guide, section 2.2.3 (LDS of 64 KB).
SHARED_BYTES: dict[Target, int] = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}


class _Jitted(Protocol):
    """What `triton.jit` makes, with the interpreter on or off."""

    @property
    def fn(self) -> object: ...


@dataclass(frozen=True)
class CompiledInfo:
    """What a compiled kernel needs.

    Attributes:
        registers: of one thread; AMD's are vector registers.
        spills: bytes (NVIDIA) or registers (AMD) that did not fit and went to memory; zero is what one wants.
        shared_bytes: shared memory of one block.
        matrix_instructions: names of the matrix instructions used, sorted; empty says that none is.
    """

    registers: int
    spills: int
    shared_bytes: int
    matrix_instructions: tuple[str, ...] = ()


def compile_ahead(
    kernel: _Jitted,
    signature: Mapping[str, str],
    constexprs: Mapping[str, int | float | bool | None],
    target: Target,
    *,
    num_warps: int = 4,
    num_stages: int = 2,
    unaligned: Sequence[str] = (),
) -> CompiledInfo:
    """Compile a kernel and return what it needs. The same question is answered once.

    Args:
        kernel: made by `triton.jit` at the top level of a module.
        signature: Triton's type of each argument that isn't constexpr: `*bf16`, `*fp32`, `*i64`, `i32`, `fp32`.
        constexprs: values of the constexpr arguments.
        target: the GPU.
        num_warps: as in a launch.
        num_stages: as in a launch.
        unaligned: names of pointers and integers that aren't divisible by 16; all others are taken to be.

    Raises:
        RuntimeError: the compiler refused; the message is its own.
    """
    function = kernel.fn
    job = {
        "module": getattr(function, "__module__", ""),
        "file": inspect.getsourcefile(function) if inspect.isfunction(function) else "",
        "name": getattr(function, "__name__", ""),
        "signature": dict(signature),
        "constexprs": dict(constexprs),
        "target": target,
        "options": {"num_warps": num_warps, "num_stages": num_stages},
        "unaligned": sorted(unaligned),
    }
    return _ask(json.dumps(job))


@functools.cache
def _ask(job: str) -> CompiledInfo:
    worker = _worker()
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(job + "\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        _worker.cache_clear()
        raise RuntimeError(f"the compiler died with code {worker.wait()} at {job}")
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return CompiledInfo(**{**answer, "matrix_instructions": tuple(answer["matrix_instructions"])})


@functools.cache
def _worker() -> subprocess.Popen[str]:
    cache = tempfile.TemporaryDirectory(prefix="aot-")  # a log is only written by a compilation that really runs
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": cache.name, "TRITON_DUMP_PTXAS_LOG": "1"}
    worker = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def stop() -> None:
        assert worker.stdin is not None and worker.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
        worker.stdout.close()
        worker.wait()
        cache.cleanup()

    atexit.register(stop)
    return worker


def _serve() -> None:
    answers = sys.stdout
    for line in sys.stdin:
        try:
            answer: Mapping[str, object] = asdict(_compile(json.loads(line)))
        except Exception:  # noqa: BLE001  # the asker raises it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _compile(job: dict[str, object]) -> CompiledInfo:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(_module(str(job["module"]), str(job["file"])), str(job["name"]))
    given, constexprs, unaligned = job["signature"], job["constexprs"], job["unaligned"]
    assert isinstance(given, dict) and isinstance(constexprs, dict) and isinstance(unaligned, list)
    if set(kernel.arg_names) != set(given) | set(constexprs):
        raise ValueError(f"{sorted([*given, *constexprs])} are given; the arguments are {sorted(kernel.arg_names)}")
    signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
    aligned = {
        (position,): [["tt.divisibility", 16]]
        for position, (name, kind) in enumerate(signature.items())
        if kind.startswith(("*", "i")) and name not in unaligned
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=aligned)
    architecture = str(job["target"])
    amd = architecture.startswith("gfx")
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        target = GPUTarget("hip", architecture, 64) if amd else GPUTarget("cuda", int(architecture[3:]), 32)
        compiled = triton.compile(source, target=target, options=job["options"])
    text = compiled.asm["amdgcn"] if amd else log.getvalue()
    found = _amd(text) if amd else _nvidia(text)
    instructions = re.findall(
        r"v_mfma_\w+|wgmma\.mma_async|mma\.sync|tcgen05\.mma", text if amd else compiled.asm["ptx"]
    )
    return CompiledInfo(*found, compiled.metadata.shared, tuple(sorted(set(instructions))))


def _module(name: str, file: str) -> object:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)  # a test file is no module that can be found
    assert spec is not None and spec.loader is not None, (name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _nvidia(log: str) -> tuple[int, int]:
    return _number(r"Used (\d+) registers", log), _number(r"(\d+) bytes spill stores", log)


def _amd(assembly: str) -> tuple[int, int]:
    spills = _number(r"\.vgpr_spill_count:\s+(\d+)", assembly) + _number(r"\.sgpr_spill_count:\s+(\d+)", assembly)
    return _number(r"\.vgpr_count:\s+(\d+)", assembly), spills


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"the compiler's log has no {pattern!r}; it says {text[-500:]!r}")
    return int(match.group(1))


if __name__ == "__main__":
    _serve()
