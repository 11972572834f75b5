"""InternVL 2 and later: thousandths in nested lists between words in angle brackets.

    <ref>the dog</ref><box>[[536, 509, 588, 602]]</box>

Each number is round(pixels / side * 1000), 0 to 1000. Several boxes of one name stand in one list, [[...], [...]].
Boxes only.

Source: InternVL's documentation, "Chat Data Format", grounding and detection data.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._lists import NESTED
from ._marked import MarkedNotation, Pair

INTERNVL = MarkedNotation(
    name="internvl",
    coordinates=Coordinates(scale=1000),
    corners=(2,),
    ref=("<ref>", "</ref>"),
    pairs=(Pair(opens="<box>", closes="</box>", corners=(2,)),),
    body=NESTED,
)
