"""Tables with columns, Parquet, Arrow and CSV: the same rows as in JSONL, and none of their own making."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from swift_data.args import DataArgs
from swift_data.chat_row import ChatRow
from swift_data.errors import BadRow, UnreadableDataset
from swift_data.rows import load_rows
from swift_data.source import Origin, RawRow, find_source
from swift_templates.messages import ToolCall

pytest.importorskip("pyarrow")
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types of its own
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

ORIGIN = Origin("rows", 1)


def write_table(path: Path, table: pa.Table) -> Path:
    """Write a table as its suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


def load(path: Path) -> list[ChatRow]:
    """Return a file's rows without where they come from."""
    return [replace(row, origin=ORIGIN) for row in load_rows([str(path)], DataArgs()).rows]


def call(name: str, arguments: Mapping[str, object], tool: Mapping[str, object]) -> dict[str, object]:
    """Return a row with one call."""
    function = {"name": name, "arguments": arguments}
    return {
        "messages": [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]},
            {"role": "tool", "content": "Done."},
            {"role": "assistant", "content": "Done."},
        ],
        "tools": [{"type": "function", "function": {"name": name, "parameters": tool}}],
        "meta": {name: 1},
    }


CALLS = [
    call("add", {"x": 1}, {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}),
    call("weather", {"city": "Oslo"}, {"type": "object", "properties": {"city": {"type": "string"}}}),
    call("now", {}, {"type": "object", "properties": {}}),
]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_call_in_a_table_has_its_own_arguments_only(suffix: str, tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in CALLS))
    rows = load(write_table(tmp_path / f"rows{suffix}", pa.Table.from_pylist(CALLS)))
    assert [row.conversation.messages[1].tool_calls for row in rows] == [
        (ToolCall("add", {"x": 1}),),
        (ToolCall("weather", {"city": "Oslo"}),),
        (ToolCall("now", {}),),
    ]
    assert rows == load(lines)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_nulls_in_lists_and_columns_of_a_table_stay(suffix: str, tmp_path: Path) -> None:
    rows: Sequence[Mapping[str, object]] = [{"a": [1, None], "b": None, "c": [{"d": 1}, None, {"e": 2}]}, {"a": []}]
    path = write_table(tmp_path / f"rows{suffix}", pa.Table.from_pylist([dict(row) for row in rows]))
    found = [row.columns for row in find_source(path).read(path) if isinstance(row, RawRow)]
    assert found == [{**rows[0]}, {"a": [], "b": None, "c": None}]


def test_a_picture_whose_content_is_null_is_a_bad_row(tmp_path: Path) -> None:
    row = {"query": "x", "response": "y", "image": {"bytes": None, "path": None}}
    with pytest.raises(BadRow, match="'image' has nothing; expected one of 'bytes'"):
        load(write_table(tmp_path / "rows.parquet", pa.Table.from_pylist([row])))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_two_columns_of_one_name_in_a_table_are_refused(suffix: str, tmp_path: Path) -> None:
    table = pa.table([pa.array(["x"]), pa.array(["y"]), pa.array(["z"])], names=["query", "response", "response"])
    path = write_table(tmp_path / f"rows{suffix}", table)
    with pytest.raises(UnreadableDataset, match="two columns are called 'response'"):
        load(path)
    with pytest.raises(UnreadableDataset, match="two columns are called 'response'"):
        list(find_source(path).read(path))


def test_the_row_numbers_of_pandas_are_left_out_of_csv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",query,response\n0,x,y\n1,a,\n")
    with caplog.at_level(logging.INFO):
        rows = [row.columns for row in find_source(path).read(path) if isinstance(row, RawRow)]
    assert rows == [{"query": "x", "response": "y"}, {"query": "a", "response": None}]
    assert "the first column has no name and is left out" in caplog.text


@pytest.mark.parametrize("header", ["query,,response", '""', ",,response"])
def test_another_column_without_a_name_is_refused_in_csv(header: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}\nx,y,z\n")
    with pytest.raises(UnreadableDataset, match="a column has no name"):
        load(path)
