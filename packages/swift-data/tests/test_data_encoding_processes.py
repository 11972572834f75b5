"""Encoding in several processes: they share the work, and one that dies breaks nothing."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_data.chat_row import ChatRow
from swift_data.encoded_rows import EncodedRows
from swift_data.encoding import encode_dataset
from swift_data.encoding_cache import (
    fingerprint_rows,
    lock_folder,
)
from swift_data.row_outcomes import Outcome
from swift_data.source import Origin
from swift_templates.args import PromptArgs
from swift_templates.encoded import Encoded
from swift_templates.messages import Conversation, Message
from swift_templates.template import Template
from swift_templates.testing import write_tiny_folder


def encode_numbers(numbers: Sequence[int]) -> list[Outcome]:
    """Return samples for all numbers but some."""
    return [KeyError(number) if number % 50 == 49 else [make_sample(number)] * (number % 3) for number in numbers]


def make_sample(number: int) -> Encoded:
    """Return a sample that says which number it was."""
    ids = np.full(number % 9 + 1, number)
    return Encoded(ids, ids, np.ones(len(ids), np.float32))


def build_encode_numbers() -> Callable[[Sequence[int]], list[Outcome]]:
    return encode_numbers


def check_numbers(encoded: EncodedRows, numbers: Sequence[int]) -> None:
    """Compare samples with those of `encode_numbers`."""
    expected = [number for number in numbers if number % 50 != 49 for _ in range(number % 3)]
    assert encoded.row_indices.tolist() == expected
    assert [each.input_ids.tolist() for each in encoded] == [make_sample(each).input_ids.tolist() for each in expected]


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from swift_data.encoding import encode_dataset\n"
        "from swift_templates.encoded import Encoded; import numpy as np\n"
        "def encode(rows):\n"
        "    if rows[0] >= 64: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return [[Encoded(np.ones(2, int), np.ones(2, int), np.ones(2, np.float32))] for _ in rows]\n"
        "encode_dataset(range(150), encode, key='k', cache_dir=Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "k").glob(".*.tmp"))) == 1
    asked: list[int] = []

    def encode(numbers: Sequence[int]) -> list[Outcome]:
        asked.extend(numbers)
        return [[] for _ in numbers]

    encode_dataset(range(150), encode, key="k", cache_dir=tmp_path)
    assert asked == list(range(64, 150))
    assert not list((tmp_path / "k").glob(".*.tmp"))


def test_several_processes_encode_the_same(tmp_path: Path) -> None:
    def never(numbers: Sequence[int]) -> list[Outcome]:
        raise AssertionError("this process only waits")

    done: list[int] = []
    encoded = encode_dataset(
        range(150),
        never,
        key="k",
        cache_dir=tmp_path,
        num_proc=2,
        build_encode=build_encode_numbers,
        on_progress=done.append,
    )
    check_numbers(encoded, range(150))
    assert len(done) == 5 and done[-1] == 150


def build_failing() -> Callable[[Sequence[int]], list[Outcome]]:
    def fail(numbers: Sequence[int]) -> list[Outcome]:
        raise ZeroDivisionError(numbers[0])

    return fail


def test_an_error_in_another_process_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        encode_dataset(range(150), encode_numbers, key="k", cache_dir=tmp_path, num_proc=2, build_encode=build_failing)


SLOW = """
import functools, os, sys, time
from pathlib import Path
from swift_data.encoding import encode_dataset

def encode(folder, rows):
    (folder / str(os.getpid())).touch()
    time.sleep(60)

def build(folder):
    return functools.partial(encode, folder)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    build_here = functools.partial(build, folder)
    encode_dataset(range(150), None, key="k", cache_dir=folder, num_proc=2, build_encode=build_here)
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait up to 10 s, which is far more than it takes."""
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 10 s")


def is_running(process: int) -> bool:
    """Say whether a process is there and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_workers_end_with_the_process_that_started_them(tmp_path: Path, how: str) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    (tmp_path / "cache").mkdir()
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as main:
        wait_until(lambda: len([each for each in (tmp_path / "cache").iterdir() if each.name.isdecimal()]) == 2)
        workers = [int(each.name) for each in (tmp_path / "cache").iterdir() if each.name.isdecimal()]
        assert all(map(is_running, workers))
        if how == "killed":
            main.kill()
        else:
            # As Ctrl-C does.
            os.killpg(main.pid, signal.SIGINT)
        main.communicate(timeout=10)
        wait_until(lambda: not any(map(is_running, workers)))


def encode_into(folder: Path, results: multiprocessing.SimpleQueue[int]) -> None:
    """Encode in a process of its own, slowly, and say how many rows it was asked for."""
    asked = 0

    def encode(numbers: Sequence[int]) -> list[Outcome]:
        nonlocal asked
        asked += len(numbers)
        time.sleep(0.05)
        return encode_numbers(numbers)

    check_numbers(encode_dataset(range(150), encode, key="k", cache_dir=folder), range(150))
    results.put(asked)


def test_processes_that_want_the_same_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    processes = [context.Process(target=encode_into, args=(tmp_path, results)) for _ in range(3)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    assert [each.exitcode for each in processes] == [0, 0, 0]
    assert sorted(results.get() for _ in processes) == [0, 0, 150]


def test_a_lock_is_let_go_when_its_block_ends(tmp_path: Path) -> None:
    entered = threading.Event()

    def enter() -> None:
        with lock_folder(tmp_path):
            entered.set()

    with lock_folder(tmp_path) as alone:
        assert alone
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    other.join()


def chat_row(question: str) -> ChatRow:
    messages = (Message(role="user", content=question), Message(role="assistant", content="4"))
    return ChatRow(conversation=Conversation(messages=messages), origin=Origin("a.jsonl", 1))


def build_template_encode(folder: Path) -> Callable[[Sequence[ChatRow]], Sequence[Outcome]]:
    template = Template.from_folder(folder, PromptArgs(template="chatml"))
    return lambda rows: template.encode_many([row.conversation for row in rows])


def test_a_template_encodes_rows_in_processes_of_their_own(tmp_path: Path) -> None:
    folder = write_tiny_folder(tmp_path / "model")
    rows = [chat_row(f"What is {number}?") for number in range(70)]
    build = functools.partial(build_template_encode, folder)
    encoded: EncodedRows = encode_dataset(
        rows, build(), key=fingerprint_rows(rows), cache_dir=tmp_path, num_proc=2, build_encode=build
    )
    template = Template.from_folder(folder, PromptArgs(template="chatml"))
    expected = [each for row in rows for each in template.encode(row.conversation)]
    assert len(encoded) == len(expected) == 70
    for found, made in zip(encoded, expected, strict=True):
        np.testing.assert_array_equal(found.input_ids, made.input_ids)
        np.testing.assert_array_equal(found.labels, made.labels)
