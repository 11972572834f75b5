"""Kosmos-2: two cells of a grid of 32 by 32, the upper left one and the lower right one.

    <phrase>a snowman</phrase><object><patch_index_0044><patch_index_0863></object>

A cell's number is 32 * row + column. The upper left corner is in cell floor(32 * pixels / side), the lower right one
in cell ceil(32 * pixels / side - 1). Read back, the corners are the middles of their cells; a box in one row or one
column of cells is the whole cells. So an edge comes back within one cell, not half of one. Boxes only, and several of
one name are parted by </delimiter_of_multi_objects/>.

Source: transformers' Kosmos2Processor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..grounding_notation import Coordinates, Corners
from ..grounding_shapes import PictureSize, Shape
from ._lists import Body, Lists
from ._marked import MarkedNotation, Pair

_SIDE = 32
_TWO = re.compile(r"\s*<patch_index_(\d{1,4})>\s*<patch_index_(\d{1,4})>\s*")


@dataclass(frozen=True, kw_only=True)
class _Cells(Coordinates):
    def max_error(self, size: PictureSize) -> tuple[float, float]:
        return self.unit(size)

    def encode(self, shape: Shape, size: PictureSize) -> list[float]:
        (x1, y1), (x2, y2) = shape.corners
        left, top = (math.floor(x1 / size.width * _SIDE), math.floor(y1 / size.height * _SIDE))
        right, bottom = (math.ceil(x2 / size.width * _SIDE - 1), math.ceil(y2 / size.height * _SIDE - 1))
        # A box thinner than floats can tell would end before it begins.
        return [top * _SIDE + left, max(bottom, top) * _SIDE + max(right, left)]

    def decode(self, numbers: Sequence[float], size: PictureSize) -> Corners | str:
        if max(numbers) >= _SIDE**2:
            return f"cell {max(numbers):g} is outside of the picture; expected 0 to {_SIDE**2 - 1}"
        (top, left), (bottom, right) = (divmod(int(number), _SIDE) for number in numbers)
        near, far = (0.0, 1.0) if left == right or top == bottom else (0.5, 0.5)
        wide, high = size.width / _SIDE, size.height / _SIDE
        return ((left + near) * wide, (top + near) * high), ((right + far) * wide, (bottom + far) * high)


def _read(text: str) -> Lists | str:
    lists = []
    for part in text.split("</delimiter_of_multi_objects/>"):
        two = _TWO.fullmatch(part)
        if not two:
            return "not two cells; expected <patch_index_....><patch_index_....>"
        lists.append((float(two.group(1)), float(two.group(2))))
    return tuple(lists)


KOSMOS2 = MarkedNotation(
    name="kosmos2",
    coordinates=_Cells(scale=_SIDE, digits=4),
    corners=(2,),
    ref=("<phrase>", "</phrase>"),
    pairs=(Pair(opens="<object>", closes="</object>", corners=(2,)),),
    body=Body(write=lambda numbers: "".join(f"<patch_index_{number}>" for number in numbers), read=_read),
)
