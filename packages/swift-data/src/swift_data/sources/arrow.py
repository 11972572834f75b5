"""Arrow: rows in columns, as `datasets` saves them; rows are counted where other files have lines. Needs pyarrow."""

from __future__ import annotations

import base64
import zlib

from ._table import TableFile


class ArrowFile(TableFile):
    """Reads .arrow and .feather files."""

    suffixes = (".arrow", ".feather")
    # A stream written by pyarrow 26, compressed.
    example = zlib.decompress(
        base64.b85decode(
            "c-s5_|Ns9B3=9kc3?RV8z{9}Cz{<b@WB~yq3y{wM<Z%E=7AVQUzzoDCKx_i#uK=0>RLlx8Lk23w0M^IAP@JDrT9TQc2jb5Gs=I<mZBc4"
            "*L4ICwDu{mqs7`=E1SrnNzz%kW0Mw0`dRc+Eur#%(5-i3776)qoFTuzFGywv57{s7H;{lt-z|6uR0i-e*V1NtA=K=c?<o7kuFkxaq08R"
            "$nfCowoKxr{3t%0Ua15LdJl;(xf9#EPQN(Z2+Pk_?QNM<slxsw48pAkun56PY38HptdnZ*i53fc-r_U=W8w;i6JYLCzZbDznx=}Vu@S@"
            "Wo2#fw$*u-F507ep2k4<H%<qyjz?"
        )
    )
