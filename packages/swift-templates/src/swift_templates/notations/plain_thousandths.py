"""For models without a notation of their own: thousandths in a list.

    the dog [536, 509, 588, 602]

Each number is round(pixels / side * 1000), 0 to 1000. Points are [x, y], polygons [x1, y1, x2, y2, x3, y3, ...].
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._bracketed import BracketNotation

PLAIN_THOUSANDTHS = BracketNotation(name="plain_thousandths", coordinates=Coordinates(scale=1000))
