"""Rows to samples: each encoded once, by several processes if wanted, and found again the next time.

Rows are cut into shards of consecutive rows, by their number alone; each shard is a file that is complete or absent.
So an encoding that was interrupted goes on at the first shard that is missing, and processes that want the same one
share it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from swift_templates.errors import InvalidMedia, MediaRefused, SampleTooLong
from swift_templates.template import Template

from .chat_row import ChatRow
from .encoded_rows import EncodedRows, shard_path
from .encoded_shard import Shard, ShardWriter, UnusableFolder
from .encoding_cache import lock_folder
from .errors import InvalidArgument, SwiftDataError, UnreadableDataset
from .row_outcomes import Outcome, fit_samples

logger = logging.getLogger(__name__)

Row = TypeVar("Row")
Encode: TypeAlias = Callable[[Sequence[Row]], Sequence[Outcome]]
"""Encodes some rows: an outcome for each."""

# A row takes 347 us in batches of 16, 322 of 64, 323 of 256, 336 of 1024 (GSM8K, SmolLM2's tokenizer, one core of a
# Xeon).
_BATCH: Final = 64
# Small sets are work for several processes too; a shard of media is not lost for hours; and a process may map 65,530
# files, which this leaves room in.
_FEWEST_ROWS, _MOST_ROWS, _FEW_SHARDS, _MANY_SHARDS = 32, 1024, 32, 16_384
# Reasons that may be gone the next time: a network that was down, a package that was missing.
_PASSING: Final = (OSError, ImportError, MediaRefused, InvalidMedia)

_CACHE_REMEDY: Final = (
    "set the variable SWIFT_CACHE to a folder with room that can be written, or keep nothing, with "
    "--load_from_cache_file false"
)
_OWN_REMEDY: Final = "set the variable TMPDIR to a folder with room that can be written"


class UnusableCache(SwiftDataError, OSError):
    """Encoded rows cannot be kept where they should be; the message says how to choose another place."""


def encode_dataset(
    rows: Sequence[Row],
    encode: Encode[Row],
    *,
    key: str,
    cache_dir: Path | None,
    num_proc: int = 1,
    build_encode: Callable[[], Encode[Row]] | None = None,
    retry: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> EncodedRows:
    """Encode rows, or find them encoded.

    Args:
        rows: what is encoded; of any kind that `encode` takes.
        encode: encodes some rows in this process; a row that cannot be encoded is an exception in its place.
        key: names what comes out, by `make_cache_key`: a change of rows, template or options must change it.
        cache_dir: holds the encodings, each in a folder of its key; None keeps this one until it is not needed any
            more, in the system's folder for temporary files.
        num_proc: processes that encode; 1 is this one alone.
        build_encode: makes `encode` in another process; needed if there are several. A function of a module, or a
            `functools.partial` of one and of plain arguments.
        retry: encode a shard again that was found, and in which rows failed for a reason that may have passed, such as
            a network that was down. Of the processes of one run, one alone may, before the others look.
        on_progress: is called with the number of rows that are done, again and again.

    Returns:
        The samples, and what became of the rows.

    Raises:
        InvalidArgument: num_proc is less than 1, or more without `build_encode`; `encode` gives too few outcomes, or
            samples that are none.
        UnusableCache: the folder cannot be written.
    """
    if num_proc < 1 or (num_proc > 1 and build_encode is None):
        raise InvalidArgument(
            f"num_proc is {num_proc!r}; expected at least 1, and 1 where no other process can build what encodes"
        )
    if cache_dir is not None:
        work = _Work(cache_dir / key, key, len(rows))
        try:
            work.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"the folder {str(work.folder)!r} cannot be made: {error.strerror or error}"
            raise UnusableCache(f"{reason}; {_CACHE_REMEDY}") from error
        try:
            return _encode_missing(rows, encode, work, num_proc, build_encode, retry, on_progress)
        except UnusableFolder as error:
            raise UnusableCache(f"{error}; {_CACHE_REMEDY}") from error
    try:
        folder = tempfile.mkdtemp(prefix="swift-encoded-")
    except OSError as error:
        raise UnusableCache(f"no temporary folder can be made: {error.strerror or error}; {_OWN_REMEDY}") from error
    try:
        encoded = _encode_missing(
            rows, encode, _Work(Path(folder), key, len(rows)), num_proc, build_encode, retry, on_progress
        )
    except UnusableFolder as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnusableCache(f"{error}; {_OWN_REMEDY}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(encoded, _remove_own, folder, os.getpid())
    return encoded


def _remove_own(folder: str, process: int) -> None:
    # A forked process, such as a data loader's worker, has a copy of the samples and must leave the files alone.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _encode_missing(
    rows: Sequence[Row],
    encode: Encode[Row],
    work: _Work,
    num_proc: int,
    build_encode: Callable[[], Encode[Row]] | None,
    retry: bool,
    on_progress: Callable[[int], None] | None,
) -> EncodedRows:
    with lock_folder(work.folder) as alone:
        if alone:
            # Of processes that were killed; nobody else is writing now.
            for left in work.folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        missing = [each for each in range(work.num_shards) if not work.is_done(each, retry=retry)]
        if num_found := work.num_shards - len(missing):
            logger.info("%d of %d shards of encoded rows are found in %s", num_found, work.num_shards, work.folder)
        if build_encode is None or num_proc == 1 or len(missing) < 2:
            finished = _encode_here(rows, encode, work, missing)
        else:
            finished = _encode_spread(rows, build_encode, work, missing, min(num_proc, len(missing)))
        num_done = work.num_rows - sum(len(work.places(each)) for each in missing)
        for number in finished:
            num_done += len(work.places(number))
            if on_progress is not None:
                on_progress(num_done)
        return EncodedRows(work.folder, key=work.key, num_rows=work.num_rows, rows_per_shard=work.per_shard)


def encode_chat_rows(rows: Sequence[ChatRow], template: Template) -> list[Outcome]:
    """Encode the conversations of rows, and apply the template's rule for long samples: what `encode` is in SFT."""
    outcomes: list[Outcome] = []
    most = math.inf if template.max_length is None else template.max_length
    for result in template.encode_many([row.conversation for row in rows]):
        if isinstance(result, Exception) or all(len(each) <= most for each in result):
            outcomes.append(result)
            continue
        try:
            outcomes.append(fit_samples(result, template.truncate))
        except SampleTooLong as error:
            outcomes.append(error)
    return outcomes


def count_rows_per_shard(num_rows: int) -> int:
    """Return how many rows a shard has, where there are so many in all; it depends on nothing else."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, num_rows // _FEW_SHARDS), num_rows // _MANY_SHARDS)


@dataclass(frozen=True)
class _Work:
    """What is encoded, cut into shards."""

    folder: Path
    key: str
    num_rows: int

    @property
    def per_shard(self) -> int:
        return count_rows_per_shard(self.num_rows)

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.per_shard)

    def places(self, number: int) -> range:
        """Return where a shard's rows stand among all rows."""
        start = number * self.per_shard
        return range(start, min(start + self.per_shard, self.num_rows))

    def is_done(self, number: int, *, retry: bool) -> bool:
        path = shard_path(self.folder, number)
        if not path.exists():
            return False
        try:
            shard = Shard(path, key=self.key, first_row=self.places(number).start)
        except UnreadableDataset as error:
            logger.warning("%s: it is made again", error)
            return False
        return shard.counts.num_rows == len(self.places(number)) and not (retry and shard.may_pass)

    def make(self, number: int, rows: Sequence[Row], encode: Encode[Row]) -> int:
        """Encode a shard's rows and put it into its place."""
        path, first_row = shard_path(self.folder, number), self.places(number).start
        with ShardWriter(path, key=self.key, first_row=first_row) as writer:
            for batch in _in_batches(rows):
                outcomes = encode(batch)
                if len(outcomes) != len(batch):
                    raise InvalidArgument(
                        f"{len(batch)} rows were encoded to {len(outcomes)} outcomes; expected one each"
                    )
                for outcome in outcomes:
                    writer.add(outcome, may_pass=isinstance(outcome, _PASSING))
        return number


def _in_batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    # Rows that are read from files are read faster one after the other than each by its number.
    following = iter(rows)
    while batch := list(itertools.islice(following, _BATCH)):
        yield batch


def _encode_here(rows: Sequence[Row], encode: Encode[Row], work: _Work, missing: Sequence[int]) -> Iterator[int]:
    for number in missing:
        places = work.places(number)
        yield work.make(number, rows[places.start : places.stop], encode)


# What a worker process encodes with: it is built once, and not sent with each task.
_held: list[Encode[Any]] = []


def _encode_spread(
    rows: Sequence[Row],
    build_encode: Callable[[], Encode[Row]],
    work: _Work,
    missing: Sequence[int],
    num_proc: int,
) -> Iterator[int]:
    # Not forked: threads of a tokenizer or of torch that hold a lock would hold it for ever in the copy.
    context = multiprocessing.get_context("spawn")
    start = functools.partial(_start_worker, build_encode)
    workers = ProcessPoolExecutor(num_proc, mp_context=context, initializer=start)
    pending: set[Future[int]] = set()
    try:
        for number in missing:
            # Few wait, so that few are in memory.
            if len(pending) > num_proc:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
            places = work.places(number)
            pending.add(workers.submit(_make_held, work, number, list(rows[places.start : places.stop])))
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
    except BrokenProcessPool as error:
        error.add_note("A process that encodes rows was killed, perhaps for want of memory; use fewer of them.")
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _start_worker(build_encode: Callable[[], Encode[Any]]) -> None:
    # Ctrl-C reaches all processes of a terminal: it ends them here, and is an error in the one that started them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Each process has a core of its own already. Read when the tokenizers library starts its threads.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _held[:] = [build_encode()]


def _end_with_parent() -> None:
    """End this process when the one that started it is killed; it would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by a process"
    parent.join()
    os._exit(1)


def _make_held(work: _Work, number: int, rows: Sequence[Any]) -> int:
    [encode] = _held
    return work.make(number, rows, encode)
