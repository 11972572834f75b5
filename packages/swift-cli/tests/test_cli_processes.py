"""What a new process costs and loads; each test starts one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "peft", "numpy", "accelerate", "datasets", "matplotlib", "jinja2", "tokenizers"}

# Runs swift in-process and reports on stderr what it loaded.
REPORT = """
import sys
from swift_cli.main import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python with these words."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def measure_cpu_s(*words: str) -> float:
    """Return the least CPU time of three runs, in seconds."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = spent()
        assert run("-m", "swift_cli", *words).returncode == 0
        times.append(spent() - before)
    return min(times)


@pytest.mark.parametrize(
    ("words", "also_not"),
    [
        pytest.param([], {"tyro", "yaml"}, id="swift"),
        pytest.param(["--version"], {"tyro", "yaml"}, id="version"),
        pytest.param(["sft", "--help"], set(), id="sft-help"),
        pytest.param(["infer", "--help"], set(), id="infer-help"),
        pytest.param(["export", "--help"], set(), id="export-help"),
        pytest.param(["sft", "--tuner", "lora", "--dry_run"], set(), id="dry-run"),
    ],
)
def test_an_answer_loads_nothing_heavy(words: list[str], also_not: set[str]) -> None:
    loaded = set(run("-c", REPORT, *words).stderr.split())
    assert "swift_cli" in loaded
    assert loaded.isdisjoint(HEAVY | also_not)


# Double the promised 0.3 and 0.5 s, for a machine that does other things at the same time.
@pytest.mark.parametrize(("words", "bound_s"), [([], 0.6), (["--version"], 0.6), (["sft", "--help"], 1.0)], ids=str)
def test_an_answer_takes_little_time(words: list[str], bound_s: float) -> None:
    assert measure_cpu_s(*words) < bound_s


def test_the_module_is_the_command() -> None:
    result = run("-m", "swift_cli", "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, "swift 0.1.0\n", "")
    result = run("-m", "swift_cli", "sft", "--lr", "abc")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "swift sft: error: --lr is 'abc'; expected a number, or none\n"


def test_help_works_where_the_terminal_knows_ascii_only() -> None:
    result = run("-m", "swift_cli", "sft", "--help", PYTHONIOENCODING="ascii", TERM="dumb")
    assert result.returncode == 0
    assert result.stdout.isascii()
    assert "--learning_rate FLOAT|none" in result.stdout


@pytest.mark.parametrize("words", [["sft", "--help"], ["sft", "--dry_run"], []], ids=["help", "dry-run", "overview"])
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "swift_cli", *words], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")
