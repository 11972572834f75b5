"""Tables of Apache Arrow: rows that stand in columns, in Parquet and Arrow files.

The one module that imports pyarrow. A row becomes objects of Python only when it is asked for.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types of its own
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

from .compression import data_suffix, is_compressed, open_seekable
from .errors import BadRow, UnreadableDataset
from .fields import quote
from .source import Mark, Origin, RawRow, RowTable, Scanned

_BATCH_ROWS: Final = 1000
_MAX_MEMORY_BYTES: Final = 512 << 20
"""Larger Parquet files are unpacked into a temporary file that is memory-mapped."""


class ArrowTable(RowTable):
    """A table's rows by number. It can be copied to other processes, which open the file anew."""

    def __init__(self, table: pa.Table, path: Path) -> None:
        self._table = table
        self._path = path
        self._chunk_ends = np.cumsum([len(batch) for batch in table.to_batches()], dtype=np.int64)
        self._chunks = table.to_batches()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return open_table, (self._path,)

    def read(self, start: int, stop: int) -> Iterator[RawRow | BadRow]:
        """Yield some of them."""
        while start < stop:
            # Slicing the table itself takes time for each of its chunks.
            number = int(np.searchsorted(self._chunk_ends, start, side="right"))
            chunk = self._chunks[number]
            first = start - (int(self._chunk_ends[number]) - len(chunk))
            batch = chunk.slice(first, min(stop - start, _BATCH_ROWS))
            yield from _to_rows(batch, start, self._path)
            start += len(batch)


def open_table(path: Path) -> ArrowTable:
    """Return the rows of a .parquet or Arrow file by number; raises as `Source.read` does."""
    if path.stat().st_size == 0:
        return ArrowTable(pa.table({}), path)
    try:
        table = _unpack_parquet(path) if _is_parquet(path) else _map_arrow(path)
        _check_names(table.schema.names, path)
        return ArrowTable(table, path)
    except (pa.ArrowException, OSError) as error:
        raise _describe(path, error) from error


def scan_table(path: Path, start: Mark) -> Iterator[Scanned]:
    """Yield the rows from a number on; of a Parquet file, the row groups before it are not read."""
    if path.stat().st_size == 0:
        return
    try:
        for number, batch in _batches(path, start.offset):
            if number + len(batch) <= start.offset:
                continue
            skipped = max(start.offset - number, 0)
            for index, row in enumerate(_to_rows(batch.slice(skipped), number + skipped, path), number + skipped):
                yield Scanned(Mark(index, index + 1), functools.partial(_same, row))
    except (pa.ArrowException, OSError) as error:
        raise _describe(path, error) from error


def _batches(path: Path, first_row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield a file's batches and the numbers of their first rows; those far before `first_row` are left out."""
    if not _is_parquet(path):
        number = 0
        table = _map_arrow(path)
        _check_names(table.schema.names, path)
        for chunk in table.to_batches(max_chunksize=_BATCH_ROWS):
            yield number, chunk
            number += len(chunk)
        return
    with open_seekable(path) as opened, pq.ParquetFile(opened) as file:
        _check_names(file.schema_arrow.names, path)
        number = 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if number + num_rows > first_row:
                inside = number
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                    yield inside, batch
                    inside += len(batch)
            number += num_rows


def _unpack_parquet(path: Path) -> pa.Table:
    with open_seekable(path) as opened, pq.ParquetFile(opened) as file:
        groups = range(file.num_row_groups)
        if sum(file.metadata.row_group(group).total_byte_size for group in groups) <= _MAX_MEMORY_BYTES:
            return file.read()
        # Its name goes at once, its content with the last one who has it mapped.
        with tempfile.NamedTemporaryFile(prefix="swift-data-", suffix=".arrow") as copy:
            with pa.ipc.new_file(copy.name, file.schema_arrow) as writer:
                for batch in file.iter_batches():
                    writer.write_batch(batch)
            return pa.ipc.open_file(pa.memory_map(copy.name)).read_all()


def _map_arrow(path: Path) -> pa.Table:
    if is_compressed(path):
        with open_seekable(path) as opened:
            content = pa.BufferReader(opened.read())
    else:
        content = pa.memory_map(str(path))
    # Of the two kinds of Arrow files, `datasets` writes the one that is a stream.
    try:
        return pa.ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        content.seek(0)
        return pa.ipc.open_stream(content).read_all()


def _check_names(names: list[str], path: Path) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnreadableDataset(f"{path}: two columns are called {quote(twice)}; rename one")


def _is_parquet(path: Path) -> bool:
    return data_suffix(path.name) in (".parquet", ".pq")


def _to_rows(batch: pa.RecordBatch, number: int, path: Path) -> Iterator[RawRow | BadRow]:
    name = str(path)
    with_nulls = [field.name for field, column in zip(batch.schema, batch.columns, strict=True) if _pads(column)]
    try:
        rows = batch.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        if len(batch) > 1:
            # One of them cannot be read, such as a text that is not UTF-8.
            for index in range(len(batch)):
                yield from _to_rows(batch.slice(index, 1), number + index, path)
        else:
            yield BadRow("invalid value", f"the row cannot be read: {error}", Origin(name, number + 1))
        return
    for index, row in enumerate(rows, number + 1):
        for column in with_nulls:
            row[column] = _drop_null_keys(row[column])
        yield RawRow(row, Origin(name, index))


def _pads(column: pa.Array) -> bool:
    """Say whether some object in a column has a key that is null.

    All objects of a column have the keys of each of them: one call's arguments turn up as nulls in every other call.
    """
    if pa.types.is_struct(column.type):
        fields = [column.field(index) for index in range(column.type.num_fields)]
        return any(field.null_count or pa.types.is_null(field.type) or _pads(field) for field in fields)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return _pads(column.values)
    return False


def _drop_null_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: _drop_null_keys(each) for key, each in value.items() if each is not None}
    return [_drop_null_keys(each) for each in value] if isinstance(value, list) else value


def _describe(path: Path, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if isinstance(error, UnreadableDataset):
        return error
    reason = str(error).strip().partition("\n")[0]
    return UnreadableDataset(f"{path}: not a whole file of its kind: {reason}")


def _same(row: RawRow | BadRow) -> RawRow | BadRow:
    return row
