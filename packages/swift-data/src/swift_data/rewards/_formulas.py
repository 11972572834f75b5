"""Formulas compared by value, in one process beside this one; `_math_worker` says why."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from swift_templates.errors import MissingDependency

from ..fields import shorten

logger = logging.getLogger(__name__)


def check_installed(reward: str) -> None:
    """Check that formulas can be compared, before a run starts.

    Raises:
        MissingDependency: math-verify is not installed.
    """
    if find_spec("math_verify") is None:
        raise MissingDependency(f"math-verify is needed by the reward {reward!r}; pip install 'swift-data[math]'")


def are_equal(gold: str, answer: str, *, timeout_s: float) -> bool:
    """Compare two formulas by value; where that takes more than `timeout_s` seconds they differ, and a warning says so.

    Raises:
        MissingDependency: math-verify is installed, but does not start.
    """
    return _COMPARER.compare(gold, answer, timeout_s)


@dataclass
class _Comparer:
    """The process, started when it is needed; one comparison at a time, from whatever thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[str] | None = None

    def compare(self, gold: str, answer: str, timeout_s: float) -> bool:
        """See `are_equal`."""
        with self.lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None, "opened with pipes"
            try:
                process.stdin.write(json.dumps({"gold": gold, "answer": answer, "timeout_s": timeout_s}) + "\n")
                process.stdin.flush()
                said = process.stdout.readline()
            except BrokenPipeError:
                said = ""
            if said:
                return bool(json.loads(said))
            self.stop()
        logger.warning(
            "comparing %s with the solution %s took more than %g s or too much memory; it counts as wrong",
            shorten(answer),
            shorten(gold),
            timeout_s,
        )
        return False

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()

    def forget(self) -> None:
        """Leave the process to the one that started it, and the lock to whoever held it there."""
        self.lock, self.process = threading.Lock(), None

    def _running(self) -> subprocess.Popen[str]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.stop()
        # -P: the script's neighbours, such as 'format', are not to be found as modules.
        command = [sys.executable, "-P", str(Path(__file__).with_name("_math_worker.py"))]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        assert process.stdout is not None, "opened with a pipe"
        if not process.stdout.readline():
            process.communicate()
            raise MissingDependency(
                f"math-verify is installed, but does not start (exit code {process.returncode}); "
                f"run {' '.join(command)!r} to see why"
            )
        self.process = process
        return process


_COMPARER = _Comparer()
atexit.register(_COMPARER.stop)
if hasattr(os, "register_at_fork"):
    # Two processes that talk to one would read each other's answers.
    os.register_at_fork(after_in_child=_COMPARER.forget)
