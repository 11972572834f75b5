"""Streams: each row once, the same order for any number of readers, and exact resumption from any point."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from swift_data.args import DataArgs
from swift_data.chat_row import ChatRow
from swift_data.errors import BadRow, EmptyDataset, InvalidArgument, UnreadableDataset
from swift_data.rows import load_rows
from swift_data.streaming import RowStream, Share, open_stream

pytest.importorskip("pyarrow")
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types of its own
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above


def columns(name: str, numbers: Sequence[int]) -> list[dict[str, str]]:
    """Return rows whose answers say what they are."""
    return [{"query": f"{'x' * (number % 5)}?", "response": f"{name}{number}"} for number in numbers]


def write_jsonl(path: Path, rows: Sequence[dict[str, str]], *, bad: Sequence[int] = ()) -> str:
    """Write rows, with blank lines here and there, and a bad line before each of some."""
    lines = []
    for number, row in enumerate(rows):
        lines += ["{", ""] if number in bad else []
        lines += [json.dumps(row)] + ([""] if number % 3 == 0 else [])
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, of 7 to 40 rows."""
    found = tmp_path_factory.mktemp("streams")
    write_jsonl(found / "a.jsonl", columns("a", range(40)), bad=(0, 3, 39))
    write_jsonl(found / "b.jsonl", columns("b", range(13)))
    (found / "c.json").write_text(json.dumps(columns("c", range(11)), indent=1))
    cells = ["query,response,note\n"] + [f'"x,\n{number}?",c{number},\n' for number in range(17)]
    (found / "d.csv").write_text("".join(cells).replace(",c", ",d"))
    pq.write_table(pa.Table.from_pylist(columns("e", range(23))), found / "e.parquet", row_group_size=5)
    with pa.ipc.new_stream(found / "f.arrow", pa.schema([("query", pa.string()), ("response", pa.string())])) as writer:
        for start in range(0, 12, 4):
            writer.write_table(pa.Table.from_pylist(columns("f", range(start, start + 4))))
    (found / "g.jsonl.gz").write_bytes(gzip.compress((found / "b.jsonl").read_bytes().replace(b'"b', b'"g')))
    (found / "h.jsonl.bz2").write_bytes(bz2.compress((found / "b.jsonl").read_bytes().replace(b'"b', b'"h')))
    (found / "many").mkdir()
    for number in range(4):
        write_jsonl(found / "many" / f"part{number}.jsonl", columns(f"m{number}.", range(number + 2)))
    return found


def names(rows: Iterator[ChatRow]) -> list[str]:
    """Return what the rows say they are."""
    return [row.conversation.messages[-1].content for row in rows]


_FILES = ("a.jsonl", "b.jsonl", "c.json", "d.csv", "e.parquet", "f.arrow", "g.jsonl.gz", "h.jsonl.bz2", "many")


@st.composite
def openers(draw: st.DrawFn) -> tuple[list[str], DataArgs, dict[str, object]]:
    """Draw datasets, options, and how the stream is opened."""
    files = draw(st.lists(st.sampled_from(_FILES), min_size=1, max_size=3, unique=True))
    counts = [draw(st.none() | st.integers(1, 60)) for _ in files]
    mixed = draw(st.booleans())
    args = DataArgs(
        on_bad_row="skip" if "a.jsonl" in files or draw(st.booleans()) else "raise",
        streaming=True,
        data_seed=draw(st.integers(0, 3)),
        dataset_shuffle=draw(st.booleans()),
        shuffle_buffer_size=draw(st.sampled_from([1, 2, 7, 1000])),
        interleave_prob=[draw(st.sampled_from([0.2, 0.5, 3.0])) for _ in files] if mixed else [],
        stopping_strategy=draw(st.sampled_from(["first_exhausted", "all_exhausted"])),
        split_dataset_ratio=draw(st.sampled_from([0.0, 0.2])),
    )
    specs = [file if count is None else f"{file}#{count}" for file, count in zip(files, counts, strict=True)]
    options = {"num_epochs": draw(st.integers(1, 3)), "side": draw(st.sampled_from(["all", "training"]))}
    return specs, args, options


def open_in(folder: Path, specs: Sequence[str], args: DataArgs, **options: object) -> RowStream:
    """Open a stream over files of a folder."""
    return open_stream([str(folder / spec) for spec in specs], args, **options)  # type: ignore[arg-type]  # checked there


def read_whole(stream: RowStream) -> list[str]:
    """Return all rows; a drawn split may leave a small dataset without any, which another test is about."""
    try:
        return names(stream)
    except EmptyDataset:
        assume(False)
        raise


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(opened=openers(), data=st.data())
def test_a_stream_resumes_exactly_from_any_point(
    folder: Path, opened: tuple[list[str], DataArgs, dict[str, object]], data: st.DataObject
) -> None:
    specs, args, options = opened
    stream = open_in(folder, specs, args, **options)
    whole, skipped = read_whole(stream), dict(stream.skipped)
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=3)))
    # Broken off several times; each part knows only what the one before it has written down.
    found: list[str] = []
    state: str | None = None
    for stop in [*at, None]:
        part = open_in(folder, specs, args, **options)
        if state is not None:
            part.restore(json.loads(state))
        found += names(itertools.islice(part, None if stop is None else stop - len(found)))
        state = json.dumps(part.state())
    assert found == whole
    assert dict(part.skipped) == skipped


@settings(derandomize=True, database=None, deadline=None, max_examples=25)
@given(
    opened=openers(),
    num_ranks=st.integers(1, 4),
    num_workers=st.integers(1, 3),
    batch_size=st.integers(1, 3),
)
def test_readers_share_out_one_order(
    folder: Path,
    opened: tuple[list[str], DataArgs, dict[str, object]],
    num_ranks: int,
    num_workers: int,
    batch_size: int,
) -> None:
    specs, args, options = opened
    whole = read_whole(open_in(folder, specs, args, **options))
    for rank in range(num_ranks):
        # As a data loader does it: one batch of each worker in turn.
        workers = [
            open_in(
                folder,
                specs,
                args,
                share=Share(
                    rank=rank, num_ranks=num_ranks, worker=worker, num_workers=num_workers, batch_size=batch_size
                ),
                **options,
            )
            for worker in range(num_workers)
        ]
        found: list[str] = []
        for worker in itertools.cycle(workers):
            batch = names(itertools.islice(worker, batch_size))
            if not batch:
                break
            found += batch
        assert found == whole[rank::num_ranks]


@pytest.mark.parametrize("rows_each", [0, 1, 5, 8])
@pytest.mark.parametrize(("num_before", "num_after"), [(1, 3), (3, 1), (4, 2), (2, 2)])
def test_a_state_serves_another_number_of_ranks(folder: Path, rows_each: int, num_before: int, num_after: int) -> None:
    args = DataArgs(on_bad_row="skip", shuffle_buffer_size=6)
    whole = names(open_in(folder, ["a.jsonl", "many"], args))
    states = []
    for rank in range(num_before):
        stream = open_in(folder, ["a.jsonl", "many"], args, share=Share(rank=rank, num_ranks=num_before))
        assert names(itertools.islice(stream, rows_each)) == whole[rank::num_before][:rows_each]
        states.append(stream.state())
    assert all(state == states[0] for state in states), "ranks disagree about where the stream is"
    left = whole[rows_each * num_before :]
    for rank in range(num_after):
        stream = open_in(folder, ["a.jsonl", "many"], args, share=Share(rank=rank, num_ranks=num_after))
        stream.restore(states[-1])
        assert names(stream) == left[rank::num_after]


def test_a_workers_state_is_taken_between_batches(folder: Path) -> None:
    args = DataArgs(on_bad_row="skip")
    whole = names(open_in(folder, ["a.jsonl"], args))
    workers = [
        open_in(folder, ["a.jsonl"], args, share=Share(worker=worker, num_workers=2, batch_size=3)) for worker in (0, 1)
    ]
    assert names(itertools.islice(workers[0], 3)) == whole[:3]
    assert names(itertools.islice(workers[1], 2)) == whole[3:5]
    with pytest.raises(InvalidArgument, match="inside of a batch"):
        workers[1].state()
    assert names(itertools.islice(workers[1], 1)) == whole[5:6]
    # Whoever goes on begins with worker 0 again.
    again = open_in(folder, ["a.jsonl"], args, share=Share(worker=0, num_workers=3, batch_size=3))
    again.restore(workers[1].state())
    assert names(itertools.islice(again, 4)) == [*whole[6:9], whole[15]]


def test_without_shuffling_a_stream_is_what_load_rows_loads(folder: Path) -> None:
    args = DataArgs(on_bad_row="skip", dataset_shuffle=False)
    specs = [str(folder / name) for name in ("a.jsonl#50", "e.parquet", "many#3", "c.json#11")]
    loaded = load_rows(specs, args)
    stream = open_stream(specs, args)
    assert list(stream) == list(loaded.rows)
    # The file is read again for the rows that it lacks, but its bad rows are counted once.
    assert dict(stream.skipped) == loaded.skipped == {"not JSON": 3}


@pytest.mark.parametrize("stopping_strategy", ["first_exhausted", "all_exhausted"])
def test_a_mixture_is_the_same_loaded_and_streamed(folder: Path, stopping_strategy: str) -> None:
    args = DataArgs(dataset_shuffle=False, interleave_prob=[0.6, 0.3, 0.1])
    args.stopping_strategy = stopping_strategy  # type: ignore[assignment]  # a word of the table above
    specs = [str(folder / name) for name in ("b.jsonl", "e.parquet", "many")]
    assert list(open_stream(specs, args)) == list(load_rows(specs, args).rows)


def test_shuffling_keeps_every_row_and_each_pass_has_its_own_order(folder: Path) -> None:
    args = DataArgs(shuffle_buffer_size=10)
    found = names(open_in(folder, ["e.parquet"], args, num_epochs=2))
    expected = [f"e{number}" for number in range(23)]
    assert sorted(found[:23]) == sorted(found[23:]) == sorted(expected)
    assert len({tuple(found[:23]), tuple(found[23:]), tuple(expected)}) == 3
    assert names(open_in(folder, ["e.parquet"], DataArgs(shuffle_buffer_size=10, data_seed=1))) != found[:23]
    # A row cannot come earlier than the buffer is long.
    assert all(int(name[1:]) < place + 10 for place, name in enumerate(found[:23]))


def test_a_shuffled_order_stays_the_same_over_releases(folder: Path) -> None:
    # Written down when streams were new; were it to change, a resumed run would not go on in the same order.
    found = names(open_in(folder, ["c.json"], DataArgs(shuffle_buffer_size=4)))
    assert [int(name[1:]) for name in found] == [1, 4, 0, 2, 3, 5, 8, 7, 6, 9, 10]


def test_both_sides_of_a_split_are_all_rows(folder: Path) -> None:
    args = DataArgs(on_bad_row="skip", split_dataset_ratio=0.25, dataset_shuffle=False)
    training = names(open_in(folder, ["a.jsonl#90", "a.jsonl"], args, side="training"))
    aside = names(open_in(folder, ["a.jsonl#90", "a.jsonl"], args, side="validation"))
    assert not set(training) & set(aside), "a copy is on the other side"
    assert set(training) | set(aside) == {f"a{number}" for number in range(40)}
    assert Counter(aside) == dict.fromkeys(aside, 2), "each is validated once in a dataset"
    # Drawn row by row: 40 rows of 25 % are 10, with a deviation of 2.7.
    assert 4 <= len(set(aside)) <= 16
    whole = Counter(names(open_in(folder, ["a.jsonl#90", "a.jsonl"], args)))
    assert Counter(training) == {name: count for name, count in whole.items() if name not in aside}


def test_rows_left_out_are_counted_and_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = DataArgs(on_bad_row="skip")
    first = open_in(folder, ["a.jsonl", "b.jsonl"], args, num_epochs=3)
    names(itertools.islice(first, 60))
    second = open_in(folder, ["a.jsonl", "b.jsonl"], args, num_epochs=3)
    second.restore(json.loads(json.dumps(first.state())))
    for stream in (first, second):
        names(stream)
        assert dict(stream.skipped) == {"not JSON": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "after 1 passes, 3 rows were bad and left out: 3 'not JSON'"
    ]


@pytest.mark.parametrize("num_given", [1, 5, 7, 14, 20])
def test_a_reader_goes_on_from_its_own_state_inside_of_a_batch(folder: Path, num_given: int) -> None:
    for worker in range(2):
        share = Share(rank=1, num_ranks=2, worker=worker, num_workers=2, batch_size=3)
        whole = names(open_in(folder, ["a.jsonl", "b.jsonl"], DataArgs(on_bad_row="skip"), num_epochs=3, share=share))
        first, second = (
            open_in(folder, ["a.jsonl", "b.jsonl"], DataArgs(on_bad_row="skip"), num_epochs=3, share=share)
            for _ in range(2)
        )
        begun = names(itertools.islice(first, num_given))
        second.restore(json.loads(json.dumps(first.reader_state())))
        assert begun + names(second) == whole
        other = open_in(folder, ["a.jsonl", "b.jsonl"], DataArgs(on_bad_row="skip"), num_epochs=3)
        with pytest.raises(InvalidArgument, match=r"is that of the reader \{'rank': 1.*there must be as many"):
            other.restore(first.reader_state())


def test_a_bad_row_stops_the_stream_where_it_is(folder: Path) -> None:
    stream = open_in(folder, ["a.jsonl"], DataArgs(dataset_shuffle=False))
    with pytest.raises(BadRow, match=r"a\.jsonl:1: not JSON.*on_bad_row"):
        next(stream)


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, columns("a", range(1000)))
    args = DataArgs(shuffle_buffer_size=5)
    stream = open_stream(str(path), args)
    whole = names(itertools.islice(stream, 900))
    state = stream.state()
    rest = names(stream)
    assert len(whole) + len(rest) == 1000
    # The first half is destroyed; a reader that looked at it would not get past it.
    content = path.read_bytes()
    path.write_bytes(b"\xff" * (len(content) // 2) + content[len(content) // 2 :])
    again = open_stream(str(path), args)
    again.restore(state)
    assert names(again) == rest


def test_a_state_of_other_data_is_refused(folder: Path, tmp_path: Path) -> None:
    state = open_in(folder, ["b.jsonl"], DataArgs()).state()
    for specs, args in [(["c.json"], DataArgs()), (["b.jsonl#3"], DataArgs()), (["b.jsonl"], DataArgs(data_seed=1))]:
        with pytest.raises(InvalidArgument, match="belongs to other data"):
            open_in(folder, specs, args).restore(state)
    # A folder may move.
    (tmp_path / "b.jsonl").write_bytes((folder / "b.jsonl").read_bytes())
    open_in(tmp_path, ["b.jsonl"], DataArgs()).restore(state)


def test_a_changed_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, columns("a", range(20)))
    stream = open_stream(str(path), DataArgs(shuffle_buffer_size=5))
    names(itertools.islice(stream, 3))
    state = stream.state()
    path.write_bytes(b" " * path.stat().st_size)
    with pytest.raises(UnreadableDataset, match="the file has changed"):
        open_stream(str(path), DataArgs(shuffle_buffer_size=5)).restore(state)


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), ("{\n[]\n", "no row that can be used")],
)
def test_a_stream_without_rows_is_an_error(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    for num_epochs in (1, None):
        with pytest.raises(EmptyDataset, match=words):
            next(open_stream(str(path), DataArgs(on_bad_row="skip"), num_epochs=num_epochs))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (DataArgs(shuffle_buffer_size=0), "shuffle_buffer_size is 0"),
        (DataArgs(interleave_prob=[1.0, 1.0]), "2 weights for 1 datasets"),
        (DataArgs(split_dataset_ratio=1.0), "split_dataset_ratio is 1.0"),
        (DataArgs(data_seed=-1), "seed is -1"),
    ],
)
def test_options_out_of_range_are_refused(args: DataArgs, words: str, folder: Path) -> None:
    with pytest.raises(InvalidArgument, match=words):
        next(open_in(folder, ["b.jsonl"], args))


@pytest.mark.parametrize("share", [{"rank": 1}, {"worker": 2, "num_workers": 2}, {"batch_size": 0}])
def test_a_share_that_does_not_exist_is_refused(share: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match="is no share"):
        Share(**share)


def test_whole_datasets_are_not_loaded_where_streaming_is_asked_for(folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="streaming is on"):
        load_rows([str(folder / "b.jsonl")], DataArgs(streaming=True))


def test_a_stream_may_have_no_end(folder: Path) -> None:
    found = names(itertools.islice(open_in(folder, ["c.json"], DataArgs(), num_epochs=None), 33))
    assert Counter(found) == {f"c{number}": 3 for number in range(11)}
