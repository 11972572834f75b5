"""CogVLM and CogAgent: thousandths of three digits in double brackets.

    the dog [[097,514,283,996]]
    two dogs [[097,514,283,996;400,010,512,300]]

Each number is round(pixels / side * 1000), 999 at most, so the far edge itself comes back one thousandth inside; an
answer may say 1000. A semicolon parts several boxes. Boxes only.

Source: CogVLM's README, "Format of coordination", and issues 25 and 165 of its repository.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._bracketed import BracketNotation

COGVLM = BracketNotation(
    name="cogvlm",
    coordinates=Coordinates(scale=1000, last=999, digits=3),
    corners=(2,),
    opens="[[",
    comma=",",
)
