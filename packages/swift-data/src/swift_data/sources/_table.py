"""What the sources of tables share: pyarrow reads them, and is imported when a file is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swift_templates.errors import MissingDependency

from ..errors import BadRow
from ..source import START, Mark, RawRow, RowTable, Scanned, Source

if TYPE_CHECKING:
    from types import ModuleType


class TableFile(Source):
    """Reads files that hold a table."""

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield the rows."""
        for found in self.scan(path):
            yield found.get()

    def open_rows(self, path: Path) -> RowTable:
        """Return the rows by number."""
        table: RowTable = _import_arrow_rows(path).open_table(path)
        return table

    def scan(self, path: Path, start: Mark = START) -> Iterator[Scanned]:
        """Yield the rows from a mark on."""
        yield from _import_arrow_rows(path).scan_table(path, start)


def _import_arrow_rows(path: Path) -> ModuleType:
    # A check of all sources, and a list of their suffixes, work without pyarrow.
    try:
        from .. import arrow_rows
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"pyarrow is needed to read {str(path)!r}; pip install 'swift-data[parquet]'"
        ) from error
    return arrow_rows
