"""MiniCPM-V and MiniCPM-o: thousandths with spaces between them.

    <ref>the dog</ref><box>536 509 588 602</box>
    <ref>a corner</ref><point>536 509</point>
    <ref>a sign</ref><quad>10 10 90 12 88 60 9 58</quad>

Each number is round(pixels / side * 1000), 0 to 1000.

Source: MiniCPM-V's maintainers, in issues 185, 772 and 982 of its repository.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._lists import SPACED
from ._marked import MarkedNotation, Pair

MINICPM_V = MarkedNotation(
    name="minicpm_v",
    coordinates=Coordinates(scale=1000),
    corners=(1, 2, 4),
    ref=("<ref>", "</ref>"),
    pairs=(
        Pair(opens="<point>", closes="</point>", corners=(1,)),
        Pair(opens="<box>", closes="</box>", corners=(2,)),
        Pair(opens="<quad>", closes="</quad>", corners=(4,)),
    ),
    body=SPACED,
)
