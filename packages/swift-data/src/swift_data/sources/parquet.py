"""Parquet: rows in columns, compressed; rows are counted where other files have lines. Needs pyarrow."""

from __future__ import annotations

import base64
import zlib

from ._table import TableFile


class ParquetFile(TableFile):
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
