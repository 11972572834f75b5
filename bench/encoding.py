"""How fast chat rows are encoded, beside the tokenizer alone, and how much memory a million of them take.

    python bench/encoding.py MODEL_FOLDER [ROWS.jsonl]     # without a file, rows are generated
    python bench/encoding.py MODEL_FOLDER --memory_rows 0  # the rates alone
    python bench/encoding.py MODEL_FOLDER --peer PYTHON --peer_template chatml

The rates are tokens a second of one core, the median of alternating rounds: the tokenizer's `encode_batch` on the
rendered texts; the template on the conversations; the same through `encode_dataset` into files; and ms-swift's
template, by its own code and by the model's Jinja, where an interpreter that has ms-swift is named. The shares are
medians too, of a way's rate by that of the tokenizer in the same round, since other work slows a machine for longer
than a round. The figures depend on the machine, so they are printed and not checked.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO, TypeAlias, TypeVar

# Read when the first batch is tokenized.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from swift_data import DataArgs, load_rows
from swift_data.chat_row import ChatRow
from swift_data.encoding import encode_chat_rows, encode_dataset
from swift_data.encoding_cache import fingerprint_rows, fingerprint_template, make_cache_key
from swift_data.source import Origin
from swift_templates import Conversation, Message, Template
from swift_templates.encoded import Encoded

Item = TypeVar("Item")
Round: TypeAlias = Callable[[], tuple[int, float]]
"""Encodes all rows, and returns how many tokens there were and the seconds of the processor that they took."""

_BATCH = 256
_ROUNDS = 9


class ShortRows(Sequence[ChatRow]):
    """Rows that are made when they are asked for, so that they take no memory."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice) -> ChatRow | ShortRows:  # type: ignore[override]  # as ranges do
        if isinstance(index, slice):
            return ShortRows(self._numbers[index])
        number = self._numbers[index]
        messages = (
            Message(role="user", content=f"What is {number} plus {number + 1}?"),
            Message(role="assistant", content=f"The answer is {2 * number + 1}."),
        )
        return ChatRow(conversation=Conversation(messages=messages), origin=Origin("made", number + 1))


def measure_rates(folder: str, rows: Sequence[ChatRow], peer: Mapping[str, Round]) -> None:
    """Print tokens a second of each way, and their share of the tokenizer's."""
    template = Template.from_folder(folder)
    backend = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    conversations = [row.conversation for row in rows]
    texts = [template.render(each) for each in conversations]

    def tokenize() -> int:
        batches = (backend.encode_batch(each, add_special_tokens=False) for each in _batches(texts))
        return sum(len(encoding.ids) for batch in batches for encoding in batch)

    def encode() -> int:
        return sum(_count(outcome) for batch in _batches(conversations) for outcome in template.encode_many(batch))

    def store() -> int:
        return encode_dataset(
            rows, partial(encode_chat_rows, template=template), key="bench", cache_dir=None
        ).num_tokens

    own = {"tokenizer alone": tokenize, "template": encode, "encode_dataset": store}
    ways = {**{name: _timed(way) for name, way in own.items()}, **peer}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            count, seconds = way()
            rates[name].append(count / seconds)
    for name, found in rates.items():
        shares = [rate / alone for rate, alone in zip(found, rates["tokenizer alone"], strict=True)]
        print(
            f"{name:20} {statistics.median(found):10,.0f} tokens/s   {statistics.median(shares):6.1%} of the tokenizer "
            f"alone ({min(shares):.1%} to {max(shares):.1%})"
        )
    started = time.process_time()
    fingerprint_rows(rows)
    print(f"{'fingerprint_rows':20} {len(rows) / (time.process_time() - started):10,.0f} rows/s")


def measure_memory(folder: str, num_rows: int) -> None:
    """Print the time for a million short rows, and the peak memory after each step."""
    rows = ShortRows(range(num_rows))
    template = Template.from_folder(folder)
    encode = partial(encode_chat_rows, template=template)
    print(f"{num_rows} short rows; {_peak_mib():.0f} MiB before")
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        key = make_cache_key(fingerprint_rows(rows), fingerprint_template(template))
        print(f"key        {time.perf_counter() - started:7.1f} s   {_peak_mib():5.0f} MiB at its peak")
        started = time.perf_counter()
        encoded = encode_dataset(rows, encode, key=key, cache_dir=Path(cache))
        size = sum(each.stat().st_size for each in encoded.folder.iterdir()) / (1 << 20)
        print(
            f"encoding   {time.perf_counter() - started:7.1f} s   {_peak_mib():5.0f} MiB at its peak   "
            f"{size:.0f} MiB on disk, {encoded.num_tokens:,} tokens"
        )
        started = time.perf_counter()
        encoded = encode_dataset(rows, encode, key=key, cache_dir=Path(cache))
        print(f"opening    {time.perf_counter() - started:7.1f} s   {_peak_mib():5.0f} MiB at its peak")
        started = time.perf_counter()
        num_trained = sum(int((each.loss_scale > 0).sum()) for each in encoded)
        print(
            f"reading    {time.perf_counter() - started:7.1f} s   {_peak_mib():5.0f} MiB at its peak   "
            f"{num_trained:,} trained"
        )


def _timed(way: Callable[[], int]) -> Round:
    def run() -> tuple[int, float]:
        started = time.process_time()
        count = way()
        return count, time.process_time() - started

    return run


@contextlib.contextmanager
def open_ms_swift(python: str, folder: str, rows: Sequence[ChatRow], template: str) -> Iterator[dict[str, Round]]:
    """Start an interpreter that encodes the rows with ms-swift, one for each of its ways to write a prompt."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as processes:
        path = Path(scratch) / "rows.jsonl"
        path.write_text("".join(f"{json.dumps(_to_messages(row.conversation))}\n" for row in rows), encoding="utf-8")
        script = str(Path(__file__).with_name("ms_swift_encoding.py"))
        rounds: dict[str, Round] = {}
        for name, backend in (("ms-swift", "swift"), ("ms-swift by Jinja", "jinja")):
            said = processes.enter_context((Path(scratch) / f"{backend}.log").open("w+", encoding="utf-8"))
            command = [python, script, folder, str(path), template, backend]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
            # Leaving it closes what the process reads from, which ends it, and waits for that.
            processes.enter_context(process)
            rounds[name] = partial(_ask, process, said)
        yield rounds


def _ask(process: subprocess.Popen[str], said: TextIO) -> tuple[int, float]:
    """Let a process encode its rows once; it may still be loading, which it does not count."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # It has ended, as the next line finds.
        process.stdin.write("\n")
        process.stdin.flush()
    if not (line := process.stdout.readline()):
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        said.seek(0)
        raise SystemExit(f"ms-swift does not encode the rows with {process.args!r}: ...{said.read()[-1000:]}")
    answer = json.loads(line)
    return answer["tokens"], answer["seconds"]


def _to_messages(conversation: Conversation) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": each.role, "content": each.content} for each in conversation.messages]}


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _count(outcome: Sequence[Encoded] | Exception) -> int:
    if isinstance(outcome, Exception):
        raise outcome
    return sum(map(len, outcome))


def _peak_mib() -> float:
    # In KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Measure the rates, and then the memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("model_folder")
    parser.add_argument("rows", nargs="?")
    parser.add_argument("--num_rows", type=int, default=3000)
    parser.add_argument("--memory_rows", type=int, default=1_000_000)
    parser.add_argument(
        "--columns", default="", help="your column names to ours, such as question=query,answer=response"
    )
    parser.add_argument("--peer", default="", help="an interpreter that has ms-swift, whose rate is measured too")
    parser.add_argument("--peer_template", default="chatml", help="ms-swift's name for the model's template")
    args = parser.parse_args()
    if args.memory_rows:
        measure_memory(args.model_folder, args.memory_rows)
    if args.rows:
        columns = dict(each.split("=") for each in args.columns.split(",") if each)
        rows: Sequence[ChatRow] = load_rows([args.rows], DataArgs(columns=columns)).rows
    else:
        rows = ShortRows(range(args.num_rows))
    if args.num_rows:
        rows = list(itertools.islice(rows, args.num_rows))
        with contextlib.ExitStack() as stack:
            peer: dict[str, Round] = {}
            if args.peer:
                peer = stack.enter_context(open_ms_swift(args.peer, args.model_folder, rows, args.peer_template))
            measure_rates(args.model_folder, rows, peer)


if __name__ == "__main__":
    main()
