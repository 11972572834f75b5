"""What importing costs beside importing torch, in new processes that take turns.

    python packages/swift-tuners/bench/import_time.py [--repeats 9]

The aim is at most 1.2 times torch. `import swift_tuners` alone loads nothing heavy; `Swift` needs torch, but neither
transformers nor peft.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

LIMIT = 1.2
STATEMENTS = {
    "torch": "import torch",
    "package": "import swift_tuners",
    "Swift": "from swift_tuners import Swift",
}
_CODE = """
import sys, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, *[name for name in ("torch", "transformers", "peft") if name in sys.modules])
"""


def measure(statement: str) -> tuple[float, list[str]]:
    """Return seconds, and which heavy packages were imported."""
    command = [sys.executable, "-c", _CODE.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    return float(seconds), loaded


def main() -> int:
    """Print medians and ratios; return 1 if one is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    measure(STATEMENTS["torch"])  # the first reads files from the disk
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    heavy: dict[str, list[str]] = {}
    for _ in range(repeats):
        for name, statement in STATEMENTS.items():
            duration, heavy[name] = measure(statement)
            seconds[name].append(duration)
    worst = 0.0
    for name, statement in STATEMENTS.items():
        # Of neighbours in time, so that a busy machine slows both.
        ratio = statistics.median(own / torch for own, torch in zip(seconds[name], seconds["torch"], strict=True))
        worst = max(worst, ratio if name != "torch" else 0.0)
        print(
            f"{statement:32} {statistics.median(seconds[name]):7.3f} s  {ratio:5.2f} x torch"
            f"  loads {', '.join(heavy[name]) or 'none of torch, transformers, peft'}"
        )
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
