"""Parquet: rows in columns, compressed; rows are counted where other files have lines. Needs pyarrow."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swift_templates.errors import MissingDependency

from ..errors import BadRow
from ..source import START, Mark, RawRow, RowTable, Scanned, Source

if TYPE_CHECKING:
    from types import ModuleType


class ParquetFile(Source):
    """Reads .parquet files."""

    suffixes = (".parquet", ".pq")
    # Written by pyarrow 26, without compression, and compressed as a whole.
    example = zlib.decompress(
        base64.b85decode(
            "c-jka3^EjD5cLrC&=F+;GT21fWEdD2n1Gmtkq=0QXC#&=WELwJDQGJg*>eCz+=~uxJ3K$t9;n(()C`L@Mj&az10<eJU;1p$nnw*QUaXo"
            "2R3s%Tg`t|6i5W<O<XI$rOc^BDijy-^a}!0`7({tgnIu>XOH+#~RT+Fh>cJu$MXALF`FX{uD1ycLIi)3;`FT)5F&0S~NgFi=8BrcdRW="
            "4ms5zoQ39&q}JT(qa8K5&5M41?D#B?OtB-I#LfVz;>!)*a;i4luYD?`#Eg;fj84PY$}Vh(DT7?Jd_f%Gteye!tmB*vn~0i+l-6bcfHfK"
            "DsXO)e<VO)M(PFIOl_Eh+|@qF`jEXP{>&X#?~R1TiQB12zB{UjR7sOb-"
        )
    )

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
