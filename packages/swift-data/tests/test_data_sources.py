"""Files to raw rows: every kind, compressed, in folders, by number and from a mark on; each bad row has its place."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from swift_data.args import DataArgs
from swift_data.chat_row import ChatRow
from swift_data.errors import BadRow, EmptyDataset, InvalidSpec, UnreadableDataset, UnsupportedDataset
from swift_data.rows import load_rows
from swift_data.source import SOURCES, START, RawRow, Source, find_source
from swift_data.streaming import open_stream

pytest.importorskip("pyarrow")
pytest.importorskip("zstandard")
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types of its own
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
import zstandard

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
ALL_SUFFIXES = [
    pytest.param(SOURCES.load_class(name)(), suffix, id=suffix)
    for name in SOURCES.names()
    for suffix in SOURCES.load_class(name).suffixes
]


def example_of(source: Source, suffix: str) -> bytes:
    """Return a source's example as a file with this ending would hold it."""
    return source.example.replace(b",", b"\t") if suffix == ".tsv" else source.example


def read_columns(path: Path) -> list[dict[str, object]]:
    """Return a file's rows without their null columns."""
    rows = list(find_source(path).read(path))
    assert all(isinstance(row, RawRow) for row in rows), rows
    return [{k: v for k, v in row.columns.items() if v is not None} for row in rows if isinstance(row, RawRow)]


@pytest.mark.parametrize(("source", "suffix"), ALL_SUFFIXES)
@pytest.mark.parametrize("compression", ["", *COMPRESS])
def test_every_kind_of_file_is_read_compressed_too(
    source: Source, suffix: str, compression: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.b{suffix}{compression}"
    content = example_of(source, suffix)
    path.write_bytes(COMPRESS[compression](content) if compression else content)
    assert read_columns(path) == list(source.example_rows)


@pytest.mark.parametrize(("source", "suffix"), ALL_SUFFIXES)
@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_rows_are_the_same_read_through_by_number_and_from_any_mark(
    source: Source, suffix: str, compression: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}{compression}"
    content = example_of(source, suffix)
    path.write_bytes(COMPRESS[compression](content) if compression else content)
    rows = list(source.read(path))
    table = source.open_rows(path)
    assert len(table) == len(rows)
    assert [next(table.read(index, index + 1)) for index in (1, 0)] == [rows[1], rows[0]]
    found = list(source.scan(path))
    assert [each.get() for each in found] == rows
    for index, each in enumerate(found):
        assert [later.get() for later in source.scan(path, each.mark)] == rows[index:]
        assert [fetched.get() for fetched in source.fetch(path, [each.mark])] == [rows[index]]
    assert [fetched.get() for fetched in source.fetch(path, [each.mark for each in found])] == rows


class OnlyReads(Source):
    """A source of somebody else's that has nothing but `read`."""

    suffixes = (".jsonl",)
    example = b""

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield what JSON Lines has."""
        return find_source(path).read(path)


def test_a_source_that_only_reads_can_do_all_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{\n\n{"a": 2}\n')
    source = OnlyReads()
    rows = list(source.read(path))
    assert [str(row) for row in source.open_rows(path).read(1, 3)] == [str(row) for row in rows[1:]]
    marks = [each.mark for each in source.scan(path, START)]
    assert [mark.line for mark in marks] == [1, 2, 4]
    assert [str(each.get()) for each in source.scan(path, marks[1])] == [str(row) for row in rows[1:]]
    assert [each.get() for each in source.fetch(path, [marks[0], marks[2]])] == [rows[0], rows[2]]
    assert list(source.fetch(path, [])) == []


def test_text_files_hold_a_row_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff one \r\n\n  \ntwo\u2028lines\x0b\nlast".encode())
    rows = list(find_source(path).read(path))
    assert [(row.columns["text"], row.origin.line) for row in rows if isinstance(row, RawRow)] == [
        (" one ", 1),
        ("two\u2028lines\x0b", 4),
        ("last", 5),
    ]


def test_csv_cells_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfquery, response\r\n"a, ""b""\r\nc",5" disk\r\n\r\nx,\n"",y')
    rows = [row for row in find_source(path).read(path) if isinstance(row, RawRow)]
    assert [dict(row.columns) for row in rows] == [
        {"query": 'a, "b"\r\nc', "response": '5" disk'},
        {"query": "x", "response": None},
        {"query": None, "response": "y"},
    ]
    assert [row.origin.line for row in rows] == [2, 5, 6]


def test_csv_cells_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"query,response\nx,{'y' * 300_000}\n")
    assert load_rows([str(path)], DataArgs()).rows[0].conversation.messages[1].content == "y" * 300_000


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.csv", b"query,response\nx,y\nx\nx,y\n", 3, "1 cells; expected 2"),
        ("a.csv", b'query,response\nx,"y\ny"\nx,y,z\n', 4, "3 cells; expected 2, one for each of 'query', 'response'"),
        ("a.csv", b'query,response\n"x"x,y\n', 2, "not CSV"),
        ("a.csv", b"query,response\nx,\xe4\n", 2, "byte 2 of the row is not UTF-8"),
        ("a.tsv", b"query\tresponse\nx,y\n", 2, "1 cells; expected 2"),
        ("a.txt", b"x\n\xe4\n", 2, "not UTF-8"),
        ("a.txt", b"x\n\0\n", 2, "NUL"),
        ("a.jsonl.gz", gzip.compress(b'{"query": "x", "response": "y"}\n\n{\n'), 3, "not JSON"),
    ],
)
def test_a_bad_row_has_file_and_line(name: str, content: bytes, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadRow) as caught:
        load_rows([str(path)], DataArgs(columns={"text": "response"}), answers="optional")
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def read_stream(specs: list[str], args: DataArgs) -> list[ChatRow]:
    """Read datasets as a stream."""
    return list(open_stream(specs, args))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b'query,response\nx,y\n"x,y\nx,y\n', ":3: a quote that this row opens is never closed"),
        ("a.csv", b"query,,response\nx,y,z\n", ":1: a column has no name"),
        ("a.csv", b"query,query\nx,y\n", ":1: two columns are called 'query'"),
        ("a.csv", b"\xe4,b\nx,y\n", "column names cannot be read"),
        ("a.csv", b"query,response\n", "is empty"),
        ("a.jsonl.gz", gzip.compress(b'{"query": "x"}\n' * 99)[:-9], "not a whole .gz file"),
        ("a.jsonl.gz", b"hello", "not a whole .gz file"),
        ("a.jsonl.bz2", b"hello", "not a whole .bz2 file"),
        ("a.jsonl.xz", lzma.compress(b"{}\n" * 99)[:-9], "not a whole .xz file"),
        ("a.jsonl.zst", zstandard.compress(bytes(range(256)) * 99)[:-9], "not a whole .zst file"),
        ("a.jsonl.zst", b"hello", "not a whole .zst file"),
        ("a.json.gz", gzip.compress(b"7"), "expected a JSON array"),
        ("a.parquet", b"PAR1hello", "not a whole file of its kind"),
        ("a.arrow", b"hello", "not a whole file of its kind"),
    ],
)
def test_a_broken_file_is_an_error_even_where_rows_are_skipped(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (load_rows, read_stream):
        with pytest.raises((UnreadableDataset, EmptyDataset)) as caught:
            read([str(path)], DataArgs(on_bad_row="skip"))
        assert str(path) in str(caught.value)
        assert words in str(caught.value)


def test_frames_of_zstd_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstandard.compress(b"one\n") + zstandard.compress(b"two\n"))
    assert read_columns(path) == [{"text": "one"}, {"text": "two"}]


def write_parquet(path: Path, rows: Sequence[dict[str, object]], row_group_size: int = 3) -> str:
    """Write rows in small groups and return the file's name."""
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group_size)
    return str(path)


def test_parquet_holds_nested_rows(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"r{i}"}]}
        for i in range(10)
    ]
    name = write_parquet(tmp_path / "a.parquet", rows)
    loaded = load_rows([name], DataArgs())
    assert [row.conversation.messages[1].content for row in loaded.rows] == [f"r{i}" for i in range(10)]
    assert str(loaded.rows[7].origin) == f"{name}:8"


def test_parquet_names_the_row_that_is_bad(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"query": "x", "response": "y" if i != 4 else ""} for i in range(8)]
    name = write_parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(BadRow, match=r"a\.parquet:5: 'response' is ''"):
        load_rows([name], DataArgs())
    assert load_rows([name], DataArgs(on_bad_row="skip")).skipped == {"empty answer": 1}


def test_a_text_in_parquet_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    texts = pa.array([b"y", b"\xe4", b"y"]).view(pa.string())
    pq.write_table(pa.table({"query": ["x", "x", "x"], "response": texts}), tmp_path / "a.parquet")
    loaded = load_rows([str(tmp_path / "a.parquet")], DataArgs(on_bad_row="skip"))
    assert [row.origin.line for row in loaded.rows] == [1, 3]
    assert loaded.skipped == {"invalid value": 1}


def test_a_large_parquet_file_is_unpacked_to_a_mapped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, object]] = [{"query": f"q{i}", "response": f"r{i}"} for i in range(10)]
    name = write_parquet(tmp_path / "a.parquet", rows)
    expected = list(load_rows([name], DataArgs()).rows)
    monkeypatch.setattr("swift_data.arrow_rows._MAX_MEMORY_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    loaded = load_rows([name], DataArgs())
    assert list(loaded.rows) == expected
    assert [loaded.rows[i] for i in (9, 0)] == [expected[9], expected[0]]
    assert list((tmp_path / "scratch").iterdir()) == [], "the copy has a name"


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_both_kinds_of_arrow_files_are_read(new: Callable[..., object], tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"query": f"q{i}", "response": f"r{i}"} for i in range(5)])
    with new(str(tmp_path / "a.arrow"), table.schema) as writer:  # type: ignore[attr-defined]  # pyarrow's writers are
        writer.write_table(table, max_chunksize=2)
    rows = load_rows([str(tmp_path / "a.arrow")], DataArgs()).rows
    assert [row.conversation.messages[1].content for row in rows] == [f"r{i}" for i in range(5)]


def put(path: Path, *answers: str) -> None:
    """Write a JSONL file with these answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"query": "x", "response": answer}) + "\n" for answer in answers))


def answers_of(spec: object) -> list[str]:
    """Return the answers of a dataset's rows."""
    return [row.conversation.messages[-1].content for row in load_rows([str(spec)], DataArgs()).rows]


def test_a_folder_is_its_files_sorted_and_those_of_its_folders(tmp_path: Path) -> None:
    put(tmp_path / "rows" / "b.jsonl", "b")
    put(tmp_path / "rows" / "a" / "z.jsonl", "z")
    put(tmp_path / "rows" / "c.jsonl", "c")
    put(tmp_path / "rows" / ".cache" / "hidden.jsonl", "hidden")
    put(tmp_path / "rows" / "d.jsonl", "d")
    (tmp_path / "rows" / "dataset_infos.json").write_text("{}")
    (tmp_path / "rows" / "LICENSE").write_text("of no kind")
    assert answers_of(tmp_path / "rows") == ["z", "b", "c", "d"]
    assert answers_of(f"{tmp_path / 'rows'}#2") != []
    assert answers_of(f"{tmp_path / 'rows'}:a") == ["z"]


def test_a_folder_with_splits_asks_which(tmp_path: Path) -> None:
    put(tmp_path / "train.jsonl", "train")
    put(tmp_path / "test.jsonl", "test")
    put(tmp_path / "contest.jsonl", "neither")
    with pytest.raises(InvalidSpec, match=r"splits 'test', 'train'.*choose, such as"):
        load_rows([str(tmp_path)], DataArgs())
    assert answers_of(f"{tmp_path}:train") == ["train"]
    assert answers_of(f"{tmp_path}:test/train") == ["test", "train"]
    assert answers_of(f"{tmp_path}:all") == ["neither", "test", "train"]


def test_a_folder_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedDataset, match=r"is a folder that holds no \.arrow or .* file"):
        load_rows([str(tmp_path)], DataArgs())


def test_relative_media_are_found_beside_their_file_or_in_the_root(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    images = ["a.png", "/abs/b.png", "https://host/c.png", "data:image/png;base64,AA=="]
    row = {"query": "<image>" * 4, "response": "y", "images": images, "rejected_response": "n"}
    path.write_text(json.dumps(row))
    for args, root in [(DataArgs(), str(tmp_path)), (DataArgs(media_root="elsewhere"), os.path.abspath("elsewhere"))]:
        message = load_rows([str(path)], args).rows[0].conversation.messages[0]
        assert [media.source for media in message.media] == [f"{root}/a.png", *images[1:]]


def test_a_folder_may_hold_more_files_than_a_process_may_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    for number in range(60):
        put(tmp_path / "rows" / f"{number:02}.jsonl", str(number))
        (tmp_path / "rows" / f"{number:02}.jsonl.gz").write_bytes(gzip.compress(b'{"response": "x"}\n'))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 50, before[1]))
    try:
        rows = load_rows([str(tmp_path / "rows")], DataArgs(), answers="optional").rows
        assert len(list(rows)) == 120
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_file_that_is_replaced_or_deleted_is_still_what_it_was(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", "old")
    put(tmp_path / "b.jsonl", "new")
    rows = load_rows([str(tmp_path / "a.jsonl")], DataArgs()).rows
    (tmp_path / "b.jsonl").replace(tmp_path / "a.jsonl")
    assert rows[0].conversation.messages[-1].content == "old"
    (tmp_path / "a.jsonl").unlink()
    assert rows[0].conversation.messages[-1].content == "old"


def test_the_copy_of_a_compressed_file_goes_with_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "x", "response": "y"}\n'))
    rows = load_rows([str(path)], DataArgs()).rows
    assert len(list(rows)) == 1
    # It has no name, so that it goes even where the process is killed.
    assert list((tmp_path / "scratch").iterdir()) == []
    path.write_bytes(b"broken")
    with pytest.raises(UnreadableDataset):
        load_rows([str(path)], DataArgs())
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_what_the_library_datasets_saves_and_reads_is_read_alike(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"query": f"q{number}", "response": f"r{number}"} for number in range(20)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=2)
    assert answers_of(tmp_path / "saved") == [row["response"] for row in rows]
    folder = tmp_path / "repository"
    for name in ("data/train-00000-of-00002", "data/train-00001-of-00002", "data/test-00000-of-00001"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        write_parquet(folder / f"{name}.parquet", [{"query": "x", "response": name}])
    for head in ("", "---\nconfigs:\n- config_name: main\n  data_files: data/t*n-*\n---\n"):
        (folder / "README.md").write_text(head)
        expected = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / f"cache{len(head)}"), split="train")
        assert answers_of(f"{folder}:train") == expected["response"][:]


def test_a_json_file_may_hold_an_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    long = "y" * 10_000
    path.write_text(f'\n{{"query": "x", "response": "{long}"}}\n\n{{\n{{"query": "x", "response": "z"}}\n')
    for read in (lambda specs, args: load_rows(specs, args).rows, read_stream):
        rows = read([str(path)], DataArgs(on_bad_row="skip", dataset_shuffle=False))
        assert [(row.origin.line, row.conversation.messages[-1].content) for row in rows] == [(2, long), (5, "z")]
    path.write_text('{\n "data": []\n}\n')
    with pytest.raises(UnreadableDataset, match="begins with an object of several lines; expected an array"):
        load_rows([str(path)], DataArgs())


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path: Path) -> None:
    # In a process of its own, where importing them fails.
    code = (
        "import sys\n"
        "for name in ('pyarrow', 'zstandard', 'huggingface_hub', 'modelscope'): sys.modules[name] = None\n"
        "from swift_data import DataArgs, load_rows\n"
        "from swift_templates.errors import MissingDependency\n"
        "for spec in sys.argv[1:]:\n"
        "    try: load_rows([spec], DataArgs())\n"
        "    except MissingDependency as error: print(error)\n"
    )
    for name in ("a.parquet", "a.arrow", "a.jsonl.zst"):
        (tmp_path / name).write_bytes(b"some")
    names = [str(tmp_path / name) for name in ("a.parquet", "a.arrow", "a.jsonl.zst")]
    done = subprocess.run(
        [sys.executable, "-c", code, *names, "hf::o/n", "o/n"], capture_output=True, text=True, check=True
    )
    for line, package, extra in zip(
        done.stdout.splitlines(),
        ("pyarrow", "pyarrow", "zstandard", "huggingface_hub", "modelscope"),
        ("parquet", "parquet", "zstd", "hubs", "hubs"),
        strict=True,
    ):
        assert line.startswith(f"{package} is needed") and f"pip install 'swift-data[{extra}]'" in line
