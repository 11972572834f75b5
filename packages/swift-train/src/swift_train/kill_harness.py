"""Kill a run at random moments, go on with it each time, and compare it with one that was left alone.

    python -m swift_train.kill_harness FOLDER NUM_KILLS SEED -- COMMAND ...

The command trains, such as `swift sft ...`, without a folder: it is run once to its end in FOLDER/whole, and then in
FOLDER/killed, where SIGKILL ends it at so many moments drawn from the seed: after a step, or in the middle of a save.
What is then logged and saved has to be the same to the bit, as it is on a CPU.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .checkpoints import find_checkpoints
from .errors import SwiftTrainError
from .process_state import PROCESSES_FILE
from .progress import LOG_FILE, LogLine, read_log
from .run_state import SCHEDULER

WHOLE: Final = "whole"
KILLED: Final = "killed"
COMPARED: Final = ("loss", "grad_norm", "learning_rate", "eval_loss")
"""What has to be equal in each line of the log; the rest of it is about time."""
_POLL_SECONDS: Final = 0.001
_MOST_FILES: Final = 8
_SHOWN: Final = 3


class RunsDiffer(SwiftTrainError, ValueError):
    """A run that was killed has not become what one that was left alone did."""


class HarnessFailed(SwiftTrainError, RuntimeError):
    """A run failed by itself, or ended before it could be killed as often as asked for."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A moment at which a run was killed.

    Attributes:
        step: the last one that it had logged.
        while_saving: whether a checkpoint was being written.
    """

    step: int
    while_saving: bool


def run_with_kills(
    command: Sequence[str], run: Path, *, num_kills: int, num_steps: int, seed: int = 0, timeout_s: float = 3600
) -> list[Kill]:
    """Run a command that goes on where it was, kill it so often, and let it come to its end.

    Args:
        command: trains in `run`, logs each step, and goes on with what is there.
        run: the run's folder; what the command says is appended to a file beside it.
        num_kills: how often it is killed.
        num_steps: of the whole run, over which the moments are spread.
        seed: of the moments.
        timeout_s: most seconds for each start.

    Returns:
        When it was killed.

    Raises:
        HarnessFailed: it failed by itself, took too long, or ended before the last kill.
    """
    draw = random.Random(seed)
    # The last steps are left out: a run that ends while it is to be killed cannot be.
    targets = sorted(draw.randrange(1, max(2, num_steps * 9 // 10)) for _ in range(num_kills))
    kills = []
    for number, target in enumerate(targets, start=1):
        attempt = _Attempt(command, run, timeout_s=timeout_s)
        kill = attempt.kill_in_save(target, draw) if draw.random() < 0.5 else attempt.kill_after_step(target, draw)
        if kill is None:
            raise HarnessFailed(
                f"the run ended with exit code {attempt.exit_code} before kill {number} of {num_kills}; expected it to "
                f"run on: see {str(attempt.output)!r}; train longer, or kill less often"
            )
        kills.append(kill)
    run_to_end(command, run, timeout_s=timeout_s)
    return kills


def run_to_end(command: Sequence[str], run: Path, *, timeout_s: float = 3600) -> None:
    """Run a command and wait until it ends. Raises HarnessFailed if it fails."""
    attempt = _Attempt(command, run, timeout_s=timeout_s)
    if attempt.wait() != 0:
        last = attempt.output.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise HarnessFailed(f"the run ended with exit code {attempt.exit_code}; expected 0; it said: {last}")


def compare_runs(whole: Path, killed: Path) -> int:
    """Make sure that two runs logged and saved the same to the bit: losses, weights, optimizer, generators.

    Returns:
        How many lines of the log were compared.

    Raises:
        RunsDiffer: they did not; the message names the first differences.
    """
    expected, found = _curve(whole), _curve(killed)
    differing = [
        f"{key} is {found.get(key)} instead of {value}" for key, value in expected.items() if found.get(key) != value
    ]
    differing += [f"{key} is logged and should not be" for key in found.keys() - expected.keys()]
    if not differing:
        ends = [find_checkpoints(run)[-1:] for run in (whole, killed)]
        expected_files, found_files = ({} if not end else _digests(end[0]) for end in ends)
        if not expected_files:
            raise RunsDiffer(f"run {str(whole)!r} has no checkpoint; expected one to compare; let it save its end")
        differing = sorted(f"{name} differs" for name, _ in set(expected_files.items()) ^ set(found_files.items()))
    if differing:
        raise RunsDiffer(
            f"run {str(killed)!r} is not what {str(whole)!r} is: {'; '.join(differing[:_SHOWN])}"
            + (f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else "")
        )
    return len({step for step, _ in expected})


def main(argv: Sequence[str]) -> int:
    """Run the harness with the words of a command line, and return the exit code."""
    if len(argv) < 5 or argv[3] != "--" or not argv[1].isdecimal() or not argv[2].isdecimal():
        print(f"{' '.join(argv)!r} was given; expected FOLDER NUM_KILLS SEED -- COMMAND ...", file=sys.stderr)
        return 2
    folder, num_kills, seed, command = Path(argv[0]), int(argv[1]), int(argv[2]), list(argv[4:])
    whole, killed = folder / WHOLE, folder / KILLED
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run_to_end([*command, *_in_folder(whole)], whole)
        num_steps = max(step for step, _ in _curve(whole))
        kills = run_with_kills(
            [*command, *_in_folder(killed), "--resume_from_checkpoint", "latest"],
            killed,
            num_kills=num_kills,
            num_steps=num_steps,
            seed=seed,
        )
        num_lines = compare_runs(whole, killed)
    except SwiftTrainError as error:
        print(error, file=sys.stderr)
        return 1
    in_saves = sum(kill.while_saving for kill in kills)
    print(
        f"{len(kills)} kills, {in_saves} of them in a save, after steps {', '.join(str(kill.step) for kill in kills)}: "
        f"{num_lines} lines of the log, weights, optimizer and generators are equal to the bit."
    )
    return 0


class _Attempt:
    """One start of the command, in a group of processes of its own."""

    def __init__(self, command: Sequence[str], run: Path, *, timeout_s: float) -> None:
        run.parent.mkdir(parents=True, exist_ok=True)
        self.run = run
        self.output = run.with_name(f"{run.name}.txt")
        self.exit_code: int | None = None
        self._log_before = _identity(run / LOG_FILE)
        self._deadline = time.monotonic() + timeout_s
        with self.output.open("ab") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self) -> int:
        """Return the exit code."""
        while self._runs():
            time.sleep(_POLL_SECONDS)
        assert self.exit_code is not None
        return self.exit_code

    def kill_after_step(self, target: int, draw: random.Random) -> Kill | None:
        """Kill it some moment after it has logged a step; None if it ended before."""
        while self._step() < target:
            if not self._runs():
                return None
            time.sleep(_POLL_SECONDS)
        time.sleep(draw.uniform(0, 0.1))
        return self._kill(while_saving=False)

    def kill_in_save(self, target: int, draw: random.Random) -> Kill | None:
        """Kill it while it writes a checkpoint after a step, when some files are there; None if it ended before."""
        num_files = draw.randrange(_MOST_FILES + 1)
        # What an earlier start left is gone by the time that this one logs.
        while self._step() < target or not (saves := list(self.run.glob(".checkpoint-*.partial"))):
            if not self._runs():
                return None
            time.sleep(_POLL_SECONDS)
        while 0 <= _count_files(saves[0]) < num_files:
            if not self._runs():
                return None
        return self._kill(while_saving=saves[0].is_dir())

    def _runs(self) -> bool:
        self.exit_code = self._process.poll()
        if self.exit_code is None and time.monotonic() > self._deadline:
            self._kill(while_saving=False)
            raise HarnessFailed(f"the run took longer than the time that was given; see {str(self.output)!r}")
        return self.exit_code is None

    def _kill(self, *, while_saving: bool) -> Kill | None:
        # What was started may have started others, such as torchrun.
        os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.wait() != -signal.SIGKILL:
            self.exit_code = self._process.returncode
            return None
        return Kill(step=self._step(), while_saving=while_saving)

    def _step(self) -> int:
        """Return the last step that this process has logged, or begun with; 0 before that."""
        log = self.run / LOG_FILE
        if _identity(log) in (None, self._log_before):
            return 0
        lines = read_log(self.run)
        return int(str(lines[-1]["step"])) if lines else 0


def _count_files(folder: Path) -> int:
    """Return how many there are, or -1 where the folder is gone."""
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return -1


def _identity(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _curve(run: Path) -> dict[tuple[int, str], float]:
    def numbers(line: LogLine) -> dict[str, float]:
        return {name: float(str(line[name])) for name in COMPARED if name in line}

    return {(int(str(line["step"])), name): each for line in read_log(run) for name, each in numbers(line).items()}


def _digests(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that training makes and time does not."""
    exact = (PROCESSES_FILE, f"{SCHEDULER}.json")
    files = [each for each in checkpoint.rglob("*") if each.suffix == ".safetensors" or each.name in exact]
    return {f"{checkpoint.name}/{each.name}": hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


def _in_folder(run: Path) -> list[str]:
    return ["--output_dir", str(run), "--add_version", "false"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
