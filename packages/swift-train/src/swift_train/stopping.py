"""SIGTERM and Ctrl-C in training: the step that runs is finished and saved, then the run leaves.

A handler only takes note; the loop asks between two steps. A second signal ends the process at once. Under torchrun a
Ctrl-C reaches each process twice, from the terminal and from torchrun, so there a second signal counts only later.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS: Final = 5.0


class RunStopped(SystemExit):
    """A run was asked to stop and did, after saving; uncaught, it ends the process with the signal's exit code.

    Args:
        signum: the signal, whose exit code is 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.
        step: after which the run stopped.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.step = step

    def __reduce__(self) -> tuple[type[RunStopped], tuple[int, int]]:
        return type(self), (self.signum, self.step)

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name} after {self.step} steps"


class StopSignals:
    """Takes note of SIGTERM and Ctrl-C while it is entered; in another thread than the main one it does nothing.

    Args:
        speaks: whether this process tells the user what it does about them.
    """

    def __init__(self, *, speaks: bool) -> None:
        self.received: int | None = None
        self._speaks = speaks
        self._received_at = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for each in SIGNALS:
                # Who started us may have said that a signal is to be ignored, as `nohup` and background jobs do.
                if signal.getsignal(each) is not signal.SIG_IGN:
                    self._before[each] = signal.signal(each, self._take_note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)  # type: ignore[arg-type]  # as signal.signal returned it
        self._before.clear()

    def _take_note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._received_at = signum, time.monotonic()
            self._say(f"\n{signal.Signals(signum).name}: the step is finished and saved; once more leaves at once.\n")
            return
        is_echo = "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._received_at < _ECHO_SECONDS
        if not is_echo:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _say(self, sentence: str) -> None:
        if self._speaks:
            # `print` may be what the signal interrupted, and cannot be entered twice.
            os.write(2, sentence.encode())
