"""Points, boxes and polygons in pixels of a picture, and the checks that the coordinates of a row pass.

Everything inside is in pixels of the original picture, as floats, with the origin at the top left corner. Only the
borders know other units: `to_shape` reads a row's, a notation writes and reads a model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias, get_args

from .errors import InvalidObjects as InvalidObjects

Units = Literal["real", "norm_1000", "norm_1"]
"""Of a row's coordinates: pixels of the original picture, thousandths of its sides, or fractions of its sides."""

_SPELLINGS: dict[str, Units] = {"norm1000": "norm_1000", "norm1": "norm_1"}


@dataclass(frozen=True)
class Point:
    """A place in a picture."""

    x: float
    y: float

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The place, as the only corner."""
        return ((self.x, self.y),)


@dataclass(frozen=True)
class Box:
    """An upright rectangle, by its left, top, right and bottom edge."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The top left corner and the bottom right one."""
        return ((self.x1, self.y1), (self.x2, self.y2))


@dataclass(frozen=True)
class Polygon:
    """Any figure, by three or more corners in order."""

    corners: tuple[tuple[float, float], ...]


Shape: TypeAlias = Point | Box | Polygon


@dataclass(frozen=True)
class PictureSize:
    """How large a picture is, and how large the model sees it.

    Args:
        width: of the original picture, in pixels.
        height: of the original picture, in pixels.
        resized: (width, height) after the model's processor has resized it, without padding; needed by notations that
            count in those pixels.
    """

    width: int
    height: int
    resized: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        numbers: list[object] = [self.width, self.height, *(self.resized or ())]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, Real) or not 0 < float(number) < math.inf:
                raise InvalidObjects(
                    f"a picture's size is {(self.width, self.height)!r}, resized {self.resized!r}; "
                    "expected width and height in pixels, above 0"
                )


def to_units(text: str) -> Units:
    """Read the name of a unit; 'norm1000' and 'norm1' are other spellings of 'norm_1000' and 'norm_1'.

    Raises:
        InvalidObjects: there is no such unit.
    """
    for known in get_args(Units):
        if text == known or _SPELLINGS.get(text) == known:
            units: Units = known
            return units
    raise InvalidObjects(f"units of boxes are {text!r}; expected one of {', '.join(map(repr, get_args(Units)))}")


def to_shape(numbers: Sequence[float], size: PictureSize, *, units: Units = "real", what: str = "box") -> Shape:
    """Make a shape of a row's coordinates: [x, y] is a point, [x1, y1, x2, y2] a box, longer lists are polygons.

    Args:
        numbers: x and y in turn.
        size: of the picture that they are in.
        units: what they count.
        what: how messages call them, such as 'box 2'.

    Raises:
        InvalidObjects: odd or too few numbers, a number that is none, outside of the picture, swapped corners, or no
            area.
    """
    units = to_units(units)
    width, height = {"real": (size.width, size.height), "norm_1000": (1000, 1000), "norm_1": (1, 1)}[units]
    given: list[object] = list(numbers)
    values: list[float] = []
    for number in given:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise InvalidObjects(f"{what} is {given!r:.200}; expected numbers, but {number!r:.50} is none")
        try:
            values.append(float(number))
        except OverflowError:
            values.append(math.inf)
    if len(given) < 2 or len(given) % 2:
        raise InvalidObjects(
            f"{what} is {given!r:.200}: {len(given)} numbers; expected 2 (a point), 4 (a box), "
            "or 6 and more in pairs (a polygon)"
        )
    shape = to_shape_of_corners(tuple(zip(values[::2], values[1::2], strict=True)))
    _check(shape, (width, height), what=what, units=units)
    return to_shape_of_corners(tuple((x * size.width / width, y * size.height / height) for x, y in shape.corners))


def to_shape_of_corners(corners: tuple[tuple[float, float], ...]) -> Shape:
    """Make a point of one corner, a box of two, a polygon of more."""
    if len(corners) == 1:
        return Point(*corners[0])
    if len(corners) == 2:
        return Box(*corners[0], *corners[1])
    return Polygon(corners)


def check_shape(shape: Shape, size: PictureSize) -> None:
    """Refuse a shape that is not in the picture.

    Raises:
        InvalidObjects: as `to_shape` does.
    """
    _check(shape, (size.width, size.height), what=type(shape).__name__.lower(), units="real")


def _check(shape: Shape, limits: tuple[float, float], *, what: str, units: Units) -> None:
    given = [number for corner in shape.corners for number in corner]
    for at, number in enumerate(given):
        axis, limit = "xy"[at % 2], limits[at % 2]
        if math.isnan(number):
            raise InvalidObjects(
                f"{what} is {given!r:.200}: {axis}{at // 2 + 1} is not a number; expected 0 to {limit:g}"
            )
        if not 0 <= number <= limit:
            raise InvalidObjects(
                f"{what} is {given!r:.200}, outside of the picture: {axis}{at // 2 + 1} is {number:g}; "
                f"expected 0 to {limit:g} with units {units!r} (clip it, or name its units: "
                "'real', 'norm_1000' or 'norm_1')"
            )
    if isinstance(shape, Box):
        _check_box(shape, what, given)
    elif isinstance(shape, Polygon) and _is_flat(shape.corners):
        raise InvalidObjects(
            f"{what} is {given!r:.200}: it has no area; expected three corners or more, not all in one line"
        )


def _check_box(box: Box, what: str, given: list[float]) -> None:
    for axis, low, high in (("x", box.x1, box.x2), ("y", box.y1, box.y2)):
        if high < low:
            raise InvalidObjects(
                f"{what} is {given!r}, its corners swapped: {axis}2 ({high:g}) is below {axis}1 ({low:g}); expected "
                "[x1, y1, x2, y2], top left corner first (if it is [x, y, width, height], add the corner to the size)"
            )
        if high == low:
            raise InvalidObjects(
                f"{what} is {given!r}: it has no area, {axis}1 and {axis}2 are both {low:g}; "
                "expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2 (a point is [x, y])"
            )


def _is_flat(corners: tuple[tuple[float, float], ...]) -> bool:
    (x0, y0), *others = corners
    # The corner farthest from the first one gives the line; the others have to leave it.
    x1, y1 = max(others, key=lambda corner: abs(corner[0] - x0) + abs(corner[1] - y0), default=(x0, y0))
    return all((x1 - x0) * (y - y0) == (y1 - y0) * (x - x0) for x, y in others)
