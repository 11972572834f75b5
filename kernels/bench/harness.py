"""Time kernels against others: in one process, by turns, as shares of a peak that the same run measured.

Contenders are called A B A B, not A A B B, so that a machine that slows down slows all of them; the median is told, and
the best beside it. With one CPU thread the time is that thread's own, which neighbours on the machine hardly change. A
table is printed only when the kernel's tests are green: the time of a wrong kernel is no figure.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PEAK_ROUNDS = 9


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        title: what is computed, with its sizes.
        contenders: what is called, by name; each call does the whole computation, backward too if it is meant.
        baseline: name of the contender that the others are compared with.
        dtype: of the matrix products, so that the right peak is told.
        flops: floating-point operations that the computation needs, however it is done; None prints no share.
        num_bytes: bytes that it must read and write, however it is done; None prints no share.
    """

    title: str
    contenders: Mapping[str, Callable[[], object]]
    baseline: str
    dtype: torch.dtype
    flops: float | None = None
    num_bytes: float | None = None


@dataclass(frozen=True)
class Timing:
    """What was measured of one contender: median and best time in seconds, and peak memory in bytes over the start."""

    median_s: float
    best_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Peaks:
    """What the device reaches: FLOP/s of a large matrix product, bytes/s (read and written) of a large copy."""

    flops_s: float
    bytes_s: float


def main(tests: Path | Sequence[Path], cases: Callable[[torch.device], Iterable[Case]]) -> None:
    """Run a kernel's tests, then print a table for each case; the command line chooses device, threads and rounds.

    Args:
        tests: the kernel's test file or files; without them green nothing is timed.
        cases: makes the cases for a device, one at a time, so that one's memory is freed before the next.
    """
    files = [tests] if isinstance(tests, Path) else list(tests)
    parser = argparse.ArgumentParser(description=f"Times what is tested by {', '.join(each.name for each in files)}.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--rounds", type=int, default=11, help="calls of each contender")
    parser.add_argument("--only", default="", help="only cases whose title contains this")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    for each in files:
        require_green(each)
    peaks: dict[torch.dtype, Peaks] = {}
    print(f"\n{_device_name(device)}, {args.threads} threads, torch {torch.__version__}, median of {args.rounds}")
    for case in cases(device):
        if args.only not in case.title:
            continue
        if case.dtype not in peaks:
            peaks[case.dtype] = measure_peaks(device, case.dtype)
        print_table(case, measure(case.contenders, device, rounds=args.rounds), peaks[case.dtype])


def require_green(tests: Path) -> None:
    """Run a test file with pytest.

    Raises:
        SystemExit: a test fails, or none was run.
    """
    print(f"running {tests.name} first", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-x", str(tests)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests.parent)
    if ran.returncode:
        raise SystemExit(
            f"{ran.stdout[-3000:]}{ran.stderr[-1000:]}\nnothing is timed while {tests.name} is red; mend it"
        )


def measure(
    contenders: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int = 11
) -> dict[str, Timing]:
    """Call each contender once to warm up and watch its memory, then all by turns.

    Args:
        contenders: what is called, by name.
        device: where they compute.
        rounds: timed calls of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    peaks = {}
    for name, call in contenders.items():
        call()  # compiles, fills caches
        peaks[name] = _peak_bytes(call, device)
    for _ in range(rounds):
        for name, call in contenders.items():
            seconds[name].append(_seconds(call, device))
    return {name: Timing(statistics.median(all_s), min(all_s), peaks[name]) for name, all_s in seconds.items()}


def can_compile(device: torch.device) -> bool:
    """Tell whether `torch.compile` works here: on a GPU, and on a CPU with a C++ compiler."""
    return device.type == "cuda" or any(map(shutil.which, ("g++", "clang++")))


def measure_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """Measure a matrix product and a copy, both too large for caches to help and large enough to reach their best."""
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    source = torch.zeros(1 << 26 if device.type == "cpu" else 1 << 28, device=device)
    target = torch.empty_like(source)
    calls = {"product": lambda: torch.mm(a, b, out=out), "copy": lambda: target.copy_(source)}
    times = measure(calls, device, rounds=PEAK_ROUNDS)
    # The best, not the median: a peak that a neighbour lowered would flatter every share.
    return Peaks(2 * size**3 / times["product"].best_s, 2 * source.nbytes / times["copy"].best_s)


def print_table(case: Case, timings: Mapping[str, Timing], peaks: Peaks) -> None:
    """Print one row for each contender; a ratio over 1 is faster than the baseline."""
    print(f"\n{case.title}")
    product, copy = f"{peaks.flops_s / 1e9:,.0f} GFLOP/s", f"{peaks.bytes_s / 1e9:,.1f} GB/s"
    print(f"  measured peaks: {product} ({str(case.dtype).removeprefix('torch.')} product), {copy} (copy)")
    shares = f"{'GFLOP/s':>10}{'of peak':>9}{'GB/s':>8}{'of peak':>9}"
    print(f"  {'':28}{'median':>11}{'best':>11}{'ratio':>8}{shares}{'memory':>11}")
    baseline_s = timings[case.baseline].median_s
    for name, timing in timings.items():
        cells = f"{timing.median_s * 1e3:8.2f} ms{timing.best_s * 1e3:8.2f} ms{baseline_s / timing.median_s:7.2f}x"
        cells += _share(case.flops, timing.median_s, peaks.flops_s, 10)
        cells += _share(case.num_bytes, timing.median_s, peaks.bytes_s, 8)
        print(f"  {name:28}{cells}{timing.peak_bytes / 2**20:7.1f} MiB", flush=True)


def _share(amount: float | None, seconds: float, peak_s: float, width: int) -> str:
    if amount is None:
        return f"{'-':>{width}}{'-':>9}"
    return f"{amount / seconds / 1e9:{width},.1f}{amount / seconds / peak_s:9.0%}"


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    call()
    return clock() - begin


def _peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Return by how much memory grows at most while `call` runs: allocated on a GPU, resident on a CPU (Linux)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not sys.platform.startswith("linux"):
        return 0
    ctypes.CDLL(None).malloc_trim(0)  # what glibc keeps for itself would hide the growth
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
    call()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {field!r}; is /proc mounted?")


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines() if sys.platform.startswith("linux") else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
