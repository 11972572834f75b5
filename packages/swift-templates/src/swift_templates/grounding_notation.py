"""Notations: how the models of one family write coordinates in text.

A notation is two things: which numbers stand for a place (`Coordinates`), and the text around the numbers. It writes
(`render`) for training and reads (`parse`) answers, so both always speak of the same pixels. A new one is one file in
`notations/`, or an entry point in the group `swift_templates.notations`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .grounding_shapes import Box, InvalidObjects, PictureSize, Shape, check_shape, to_shape_of_corners
from .registry import Registry

Corners = tuple[tuple[float, float], ...]

NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
"""A number as models write it, as a regular expression; longer ones than these are no coordinates."""

_KINDS = {1: "a point", 2: "a box"}


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Which number stands for a place along a side: round(pixels / side * scale), and back as number / scale * side.

    Args:
        scale: the number that stands for the far edge, or the pixels that are counted: those of the picture as the
            model's processor resizes it, or those of the original.
        last: the largest number that is written, where that is less than `scale`.
        decimals: digits after the point.
        digits: digits at least, with zeros in front.
        cells: the number is that of a cell, floor(pixels / (side / scale)), and is read back as the cell's middle.
        y_first: y stands before x.
    """

    scale: int | Literal["resized", "original"]
    last: int | None = None
    decimals: int = 0
    digits: int = 1
    cells: bool = False
    y_first: bool = False

    def scales(self, size: PictureSize) -> tuple[float, float]:
        """Return the numbers that stand for the right edge and for the bottom edge.

        Raises:
            InvalidObjects: the model counts in pixels of the resized picture, and they are not known.
        """
        if self.scale == "original":
            return size.width, size.height
        if self.scale == "resized":
            if size.resized is None:
                raise InvalidObjects(
                    "the size that the picture is resized to is not known, and this model's boxes count in its pixels; "
                    "expected PictureSize(width, height, resized=(width, height))"
                )
            return size.resized
        return self.scale, self.scale

    def unit(self, size: PictureSize) -> tuple[float, float]:
        """Return how many pixels of the original picture lie between two neighbouring numbers, along x and y."""
        wide, high = self.scales(size)
        return size.width / wide / 10**self.decimals, size.height / high / 10**self.decimals

    def max_error(self, size: PictureSize) -> tuple[float, float]:
        """Return by how many pixels, along x and y, an edge may come back elsewhere than it was."""
        x, y = self.unit(size)
        units = 0.5
        if self.last is not None and isinstance(self.scale, int):
            # Nothing stands for the far edge itself.
            units = max(units, float(self.scale - self.last))
        return units * x, units * y

    def encode(self, shape: Shape, size: PictureSize) -> list[float]:
        """Return the numbers that stand for a shape's corners."""
        wide, high = self.scales(size)
        numbers: list[float] = []
        for x, y in shape.corners:
            pair = (self._encode_one(x, size.width, wide), self._encode_one(y, size.height, high))
            numbers.extend(pair[::-1] if self.y_first else pair)
        return numbers

    def decode(self, numbers: Sequence[float], size: PictureSize) -> Corners | str:
        """Return the corners that numbers stand for, in pixels, or why they stand for none."""
        if len(numbers) < 2 or len(numbers) % 2:
            return f"{len(numbers)} numbers; expected 2 for a point, 4 for a box, or more in pairs"
        wide, high = self.scales(size)
        corners = []
        for first, second in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = (second, first) if self.y_first else (first, second)
            for axis, number, scale in (("x", x, wide), ("y", y, high)):
                limit = scale - 1 if self.cells else scale
                if not 0 <= number <= limit:
                    return f"{axis} is {number:g}, outside of the picture; expected 0 to {limit:g}"
            shift = 0.5 if self.cells else 0.0
            corners.append(((x + shift) / wide * size.width, (y + shift) / high * size.height))
        return tuple(corners)

    def write(self, number: float) -> str:
        """Write a number, such as '055' or '0.25'."""
        return f"{number:.{self.decimals}f}" if self.decimals else f"{int(number):0{self.digits}d}"

    def _encode_one(self, pixels: float, side: float, scale: float) -> float:
        number = math.floor(pixels / (side / scale)) if self.cells else round(pixels / side * scale, self.decimals)
        last = scale - 1 if self.cells else scale
        return min(number, last if self.last is None else self.last)


@dataclass(frozen=True)
class Found:
    """A shape in an answer, in pixels of the original picture."""

    shape: Shape
    label: str | None
    """What the answer says it is, where the notation has a place for that."""
    start: int
    """Where its coordinates begin in the text, their marks included, in characters."""
    end: int


@dataclass(frozen=True)
class Malformed:
    """A piece of an answer that looks like coordinates and is none."""

    text: str
    reason: str
    start: int
    end: int


@dataclass(frozen=True)
class Grounded:
    """What an answer points at: shapes in order, and pieces that could not be read, each with a reason."""

    found: tuple[Found, ...]
    malformed: tuple[Malformed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A piece of text with coordinates in it, before they are checked: lists of numbers, or why there are none."""

    start: int
    end: int
    label: str | None = None
    lists: tuple[tuple[float, ...], ...] = ()
    corners: tuple[int, ...] | None = None
    """How many corners a shape may have here, if fewer than the notation can write."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Notation(ABC):
    """How one family of models writes points, boxes and polygons.

    Args:
        name: the name of its file, for messages.
        coordinates: which numbers stand for a place.
        corners: how many corners the shapes that it can write have (1 is a point, 2 a box); None is any number.
    """

    name: str
    coordinates: Coordinates
    corners: tuple[int, ...] | None = None

    def render(self, shape: Shape, size: PictureSize) -> str:
        """Write a shape: what stands in a text in the place of <bbox>.

        Raises:
            InvalidObjects: it is not inside of the picture, has no area, or is of a kind that the notation lacks.
        """
        check_shape(shape, size)
        self._check_corners(shape)
        return self._write(self.coordinates.encode(shape, size), shape)

    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        """Write the name of a thing: what stands in a text in the place of <ref-object>.

        Args:
            ref: the name.
            quoted: it comes between quotation marks, as in JSON.

        Raises:
            InvalidObjects: it holds the notation's own marks.
        """
        return ref

    @abstractmethod
    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        """Write a whole answer: names (None where there is none) and shapes."""

    @abstractmethod
    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        """Write a shape's numbers."""

    @abstractmethod
    def _scan(self, text: str) -> Iterator[Mark]:
        """Find whatever looks like coordinates, in order, in time that grows with the length of the text only."""

    def parse(self, text: str, size: PictureSize) -> Grounded:
        """Read the shapes of an answer. No text makes it raise: what cannot be read comes back with a reason.

        A shape that is thinner than the notation's unit comes back without area, as it was written.

        Args:
            text: an answer, with the special tokens that belong to the notation kept.
            size: of the picture that it speaks of.
        """
        self.coordinates.scales(size)
        found: list[Found] = []
        malformed: list[Malformed] = []
        for mark in self._scan(text):
            read: list[Shape | str] = [self._read(numbers, mark, size) for numbers in mark.lists]
            for each in [mark.reason] if mark.reason else read:
                if isinstance(each, str):
                    malformed.append(Malformed(text[mark.start : mark.end], each, mark.start, mark.end))
                else:
                    found.append(Found(each, mark.label, mark.start, mark.end))
        return Grounded(tuple(found), tuple(malformed))

    def _read(self, numbers: Sequence[float], mark: Mark, size: PictureSize) -> Shape | str:
        corners = self.coordinates.decode(numbers, size)
        if isinstance(corners, str):
            return corners
        allowed = mark.corners or self.corners
        if allowed is not None and len(corners) not in allowed:
            return f"{len(numbers)} numbers are {_kind(len(corners))}; expected {_kinds(allowed)}"
        shape = to_shape_of_corners(corners)
        if isinstance(shape, Box) and (shape.x2 < shape.x1 or shape.y2 < shape.y1):
            return "the corners are swapped; expected the top left one first"
        return shape

    def _check_corners(self, shape: Shape) -> None:
        if self.corners is not None and len(shape.corners) not in self.corners:
            raise InvalidObjects(
                f"notation {self.name!r} has no way to write {_kind(len(shape.corners))}; "
                f"expected {_kinds(self.corners)} (leave the row out, or use its bounding box)"
            )

    def _check_ref(self, ref: str, marks: Sequence[str]) -> None:
        for mark in marks:
            if mark in ref:
                raise InvalidObjects(
                    f"the name {ref!r:.200} holds {mark!r}, a mark of notation {self.name!r}; "
                    "expected a name without it"
                )


notations: Registry[Notation] = Registry(
    kind="box notation",
    package="swift_templates.notations",
    base=Notation,
)


def load_notation(name: str) -> Notation:
    """Return the notation of this name, such as 'qwen2_5_vl'. Raises as `Registry.load` does."""
    component = notations.load(name)
    return component() if isinstance(component, type) else component  # type: ignore[call-arg]  # a subclass sets them


def _kind(corners: int) -> str:
    return _KINDS.get(corners, f"a polygon of {corners} corners")


def _kinds(corners: Sequence[int]) -> str:
    return " or ".join(_kind(each) for each in corners)
