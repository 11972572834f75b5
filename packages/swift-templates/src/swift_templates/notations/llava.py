"""LLaVA 1.5 and models trained on its data: fractions of the square that the picture is padded to, in a list.

    the dog [0.54, 0.51, 0.59, 0.60]

LLaVA pads the shorter side on both ends, side = max(width, height), and its data count in that square:
round((pixels + (side - width) // 2) / side, 2), 0.00 to 1.00, and with height for y. Boxes and points.

Source: LLaVA's expand2square, and issues 606 and 822 of its repository on the rows of Visual Genome and RefCOCO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..grounding_notation import Coordinates, Corners
from ..grounding_shapes import PictureSize, Shape, to_shape_of_corners
from ._bracketed import BracketNotation


@dataclass(frozen=True, kw_only=True)
class _Square(Coordinates):
    def encode(self, shape: Shape, size: PictureSize) -> list[float]:
        square, left, top = _pad(size)
        moved = to_shape_of_corners(tuple((x + left, y + top) for x, y in shape.corners))
        return super().encode(moved, square)

    def decode(self, numbers: Sequence[float], size: PictureSize) -> Corners | str:
        square, left, top = _pad(size)
        corners = super().decode(numbers, square)
        if isinstance(corners, str):
            return corners
        unit, _ = self.unit(size)
        moved = []
        for x, y in ((x - left, y - top) for x, y in corners):
            if not -unit <= x <= size.width + unit or not -unit <= y <= size.height + unit:
                return "a corner is in the padding beside of the picture"
            # An edge of the picture itself is rounded to one side or the other.
            moved.append((min(max(x, 0.0), size.width), min(max(y, 0.0), size.height)))
        return tuple(moved)

    def unit(self, size: PictureSize) -> tuple[float, float]:
        return super().unit(_pad(size)[0])


def _pad(size: PictureSize) -> tuple[PictureSize, int, int]:
    """Return the square, and where the picture begins in it."""
    side = max(size.width, size.height)
    return PictureSize(side, side), (side - size.width) // 2, (side - size.height) // 2


LLAVA = BracketNotation(name="llava", coordinates=_Square(scale=1, decimals=2), corners=(1, 2))
