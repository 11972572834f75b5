"""The laws that every box notation keeps, as a check for tests.

The laws: what it writes it reads back, within the error that its coordinates state; what it cannot write it refuses;
no piece of what it writes makes it raise.
"""

from __future__ import annotations

from collections.abc import Iterable

from .errors import LawBroken
from .grounding_notation import Notation
from .grounding_shapes import Box, InvalidObjects, PictureSize, Point, Polygon, Shape

_SIZES = (
    PictureSize(640, 480, resized=(644, 476)),
    PictureSize(7, 4000, resized=(28, 3976)),
    PictureSize(1000, 1000, resized=(1000, 1000)),
)


def check_notation(notation: Notation, sizes: Iterable[PictureSize] = _SIZES) -> None:
    """Check the laws of a notation on shapes in the middle and at the edges of pictures.

    Args:
        notation: what is checked.
        sizes: of the pictures, with the resized sides.

    Raises:
        LawBroken: a law does not hold; the message says which, on which shape.
    """
    for size in sizes:
        for shape in _shapes(size):
            try:
                text = notation.render_answer([("a thing", shape)], size)
            except InvalidObjects as error:
                if notation.corners is None or len(shape.corners) in notation.corners:
                    raise LawBroken(
                        f"notation {notation.name!r} refuses {shape}, of a kind that it can write"
                    ) from error
                continue
            _check_reading(notation, text, shape, size)
            for end in range(len(text)):
                notation.parse(text[:end], size)


def _check_reading(notation: Notation, text: str, shape: Shape, size: PictureSize) -> None:
    what = f"notation {notation.name!r} writes {shape} as {text!r}"
    read = notation.parse(text, size)
    if read.malformed or len(read.found) != 1:
        raise LawBroken(f"{what} and reads {read}; expected the shape")
    again = read.found[0]
    if len(again.shape.corners) != len(shape.corners):
        raise LawBroken(f"{what} and reads {again.shape}; expected the same kind of shape")
    if again.label not in ("a thing", None):
        raise LawBroken(f"{what} and reads the name {again.label!r}; expected 'a thing', or none")
    errors = notation.coordinates.max_error(size)
    for before, after in zip(shape.corners, again.shape.corners, strict=True):
        for axis in (0, 1):
            # Floats themselves are off by a little.
            if abs(before[axis] - after[axis]) > errors[axis] * (1 + 1e-9) + 1e-9:
                raise LawBroken(f"{what} and reads {again.shape}; expected it within {errors} pixels")


def _shapes(size: PictureSize) -> list[Shape]:
    w, h = size.width, size.height
    return [
        Point(0, 0),
        Point(w, h),
        Point(w / 3, h / 7),
        Box(0, 0, w, h),
        Box(w / 3, h / 7, w / 2, h / 5),
        Box(w - 0.25, h - 0.25, w, h),
        Box(0, 0, 1e-3, 1e-3),
        Polygon(((0, 0), (w, 0), (w / 2, h))),
        Polygon(((0, 0), (w, 0), (w, h), (0, h))),
        Polygon(((0, 0), (w / 2, 0), (w, h / 2), (w / 2, h), (0, h / 3))),
    ]
