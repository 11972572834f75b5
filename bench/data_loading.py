"""How long it takes, and how much memory, until training can begin on a file of many short rows.

    python bench/data_loading.py            # a million rows of JSONL
    python bench/data_loading.py 200000 parquet

For each way of reading it prints the seconds until the first row is there, rows a second after that, and the peak
memory in MiB of a process of its own. The figures depend on the machine, so they are printed and not checked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from swift_data import DataArgs, load_rows
from swift_data.chat_row import ChatRow
from swift_data.sampling import order
from swift_data.streaming import open_stream

_READ_ROWS = 20_000


def write_rows(path: Path, num_rows: int) -> None:
    """Write short rows, in the kind that the name says."""
    rows = (
        {"query": f"What is {number} plus {number + 1}?", "response": f"The answer is {2 * number + 1}."}
        for number in range(num_rows)
    )
    if path.suffix == ".parquet":
        import pyarrow as pa  # type: ignore[import-untyped]  # it has no types of its own
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("query,response\n")
        for row in rows:
            file.write(",".join(row.values()) + "\n" if path.suffix == ".csv" else json.dumps(row) + "\n")


def open_loaded(path: str) -> Iterator[ChatRow]:
    """Load the rows, and read them in an epoch's order."""
    rows = load_rows([path], DataArgs()).rows
    return (rows[int(index)] for index in order(len(rows), 42, 0))


def open_skipping(path: str) -> Iterator[ChatRow]:
    """Load the rows with bad ones left out, for which all of them are checked."""
    return iter(load_rows([path], DataArgs(on_bad_row="skip")).rows)


def open_streamed(path: str) -> Iterator[ChatRow]:
    """Read the rows as a shuffled stream."""
    return open_stream([path], DataArgs(streaming=True))


WAYS: dict[str, Callable[[str], Iterator[ChatRow]]] = {
    "load_rows": open_loaded,
    "load_rows, on_bad_row skip": open_skipping,
    "open_stream": open_streamed,
}


def measure(way: str, path: str, result: SimpleQueue[tuple[float, float, float]]) -> None:
    """Put the seconds to the first row, the rows a second, and the peak MiB into the queue."""
    started = time.perf_counter()
    rows = WAYS[way](path)
    next(rows)
    ready = time.perf_counter()
    count = sum(1 for _ in itertools.islice(rows, _READ_ROWS))
    rate = count / (time.perf_counter() - ready)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In KiB on Linux, in bytes on macOS.
    result.put((ready - started, rate, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)))


def main() -> None:
    """Write a file, and measure each way of reading it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("num_rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("kind", nargs="?", choices=["jsonl", "csv", "parquet"], default="jsonl")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{args.kind}"
        write_rows(path, args.num_rows)
        print(f"{args.num_rows} rows, {path.stat().st_size / (1 << 20):.0f} MiB of {args.kind}")
        for way in WAYS:
            result: SimpleQueue[tuple[float, float, float]] = context.SimpleQueue()
            process = context.Process(target=measure, args=(way, str(path), result))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise SystemExit(f"{way}: the process ended with {process.exitcode}")
            seconds, rate, peak = result.get()
            print(f"{way:28} {seconds:6.2f} s to the first row   {rate:8.0f} rows/s   {peak:5.0f} MiB at its peak")


if __name__ == "__main__":
    main()
