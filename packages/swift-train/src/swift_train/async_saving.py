"""Writing a checkpoint in another thread while training goes on: one at a time, and its failure is not lost."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final

import psutil
from torch import Tensor

MOST_OF_FREE_MEMORY: Final = 0.25
"""Share of the free memory that a copy of what is saved may take, unless the user asks for it in any case."""
_LOWEST_PRIORITY: Final = 19


class BackgroundWriter:
    """Runs one job after the other, each in a thread that holds the process until it is done."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job, after the one before has ended.

        Raises:
            BaseException: what that one raised; then this one does not begin.
        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="swift-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the job that runs, if one does.

        Raises:
            BaseException: what it raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def raise_failure(self) -> None:
        """Raise what a job raised, if it has; do not wait for one that still runs."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            _yield_to_others()
            job()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            self._failure = error


def count_bytes(tensors: Mapping[str, object]) -> int:
    """Return the bytes of the tensors in nested mappings and lists."""
    return sum(map(_bytes_of, tensors.values()))


def has_room_for_copy(num_bytes: int) -> bool:
    """Say whether a copy of so many bytes is a small part of the free main memory."""
    return num_bytes <= MOST_OF_FREE_MEMORY * psutil.virtual_memory().available


def _yield_to_others() -> None:
    """Let this thread run when no other wants to: a step's threads wait for each other, and so all for one that waits.

    Only Linux has priorities of threads.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


def _bytes_of(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_bytes_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes_of, value))
    return 0
