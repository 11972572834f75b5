"""Saves in the background: one at a time, of the moment at which they began, and none fails unheard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from swift_train.async_saving import BackgroundWriter, count_bytes, has_room_for_copy
from swift_train.stopping import RunStopped, StopSignals

COUNT = """
import sys, time
from swift_train.stopping import StopSignals
with StopSignals(speaks=True) as signals:
    print("ready", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)
        if signals.received is not None and sys.argv[1] == "leaves":
            from swift_train.stopping import RunStopped
            raise RunStopped(signals.received, 3)
"""


def test_the_next_job_waits_for_the_one_before() -> None:
    writer, began, go, done = BackgroundWriter(), threading.Event(), threading.Event(), []

    def slow() -> None:
        began.set()
        go.wait()
        done.append("first")

    writer.start(slow)
    assert began.wait(10) and done == [], "the caller went on while it runs"
    threading.Timer(0.05, go.set).start()
    writer.start(lambda: done.append("second"))
    writer.wait()
    assert done == ["first", "second"]


def fail() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(BackgroundWriter.wait, id="at the end"),
        pytest.param(lambda writer: writer.start(lambda: None), id="at the next save"),
    ],
)
def test_a_failure_is_raised_once(ask: Callable[[BackgroundWriter], None]) -> None:
    writer = BackgroundWriter()
    writer.start(fail)
    with pytest.raises(OSError, match="No space left"):
        ask(writer)
    writer.wait()


def test_a_failure_is_heard_between_steps_and_a_running_job_is_not_waited_for() -> None:
    writer, go = BackgroundWriter(), threading.Event()
    writer.start(go.wait)  # type: ignore[arg-type]  # what it returns is not looked at
    writer.raise_failure()
    go.set()
    writer.start(fail)
    assert writer._thread is not None
    writer._thread.join()
    with pytest.raises(OSError, match="No space left"):
        writer.raise_failure()
    writer.raise_failure()


def test_bytes_are_counted_in_nested_state() -> None:
    # 3 * 4 + 2 * 2 + 8
    state = {"a": {"b": [torch.zeros(3), (torch.zeros(2, dtype=torch.bfloat16), 1)]}, "c": torch.tensor(1), "d": "x"}
    assert count_bytes(state) == 24


def test_a_copy_has_room_where_it_is_a_small_part_of_the_free_memory() -> None:
    assert has_room_for_copy(1024) and not has_room_for_copy(psutil.virtual_memory().available)


def start(behaviour: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT, behaviour],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_the_loop_leaves_by_itself_with_the_signals_exit_code(signum: signal.Signals, exit_code: int) -> None:
    process = start("leaves")
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert process.returncode == exit_code
    assert f"{signum.name}: the step is finished and saved; once more leaves at once." in said


def test_a_second_signal_leaves_at_once() -> None:
    process = start("stays")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "once more" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM
    process.communicate()


def test_handlers_are_given_back_and_ignored_signals_stay_ignored() -> None:
    def own(signum: int, frame: object) -> None:
        """Stand for a handler of whoever calls us."""

    before = signal.signal(signal.SIGTERM, own), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals(speaks=False) as signals:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_in_another_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def enter() -> None:
        with StopSignals(speaks=False) as signals:
            seen.append(signals.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [None]


def test_a_stopped_run_says_by_what_and_when(tmp_path: Path) -> None:
    stop = RunStopped(signal.SIGTERM, 12)
    assert str(stop) == "stopped by SIGTERM after 12 steps" and stop.code == 143
