"""For models without a notation of their own: pixels of the original picture in a list.

    the dog [343, 244, 376, 289]

Each number is round(pixels). Points are [x, y], polygons [x1, y1, x2, y2, x3, y3, ...].
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._bracketed import BracketNotation

PLAIN_PIXELS = BracketNotation(name="plain_pixels", coordinates=Coordinates(scale="original"))
