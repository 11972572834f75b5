"""Boxes, points and polygons in a conversation: from a row to a model's own text, and from an answer back to pixels.

Usable alone, with numpy only. A row gives coordinates in one of three units and says with <ref-object> and <bbox>
where they belong; a notation, one for each family of models, knows how they are written there:

    objects = Objects(refs=("dog",), boxes=((332, 244, 376, 289),))
    size = PictureSize(640, 480, resized=(644, 476))
    replace_placeholders(["Find <ref-object>.", "<ref-object><bbox>"], objects, [size], load_notation("qwen2_vl"))
    load_notation("qwen2_vl").parse("<|box_start|>(519,508),(588,602)<|box_end|>", size).found[0].shape
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .grounding_notation import (
    Coordinates,
    Found,
    Grounded,
    Malformed,
    Mark,
    Notation,
    load_notation,
    notations,
)
from .grounding_shapes import (
    Box,
    InvalidObjects,
    PictureSize,
    Point,
    Polygon,
    Shape,
    Units,
    check_shape,
    to_shape,
    to_units,
)

__all__ = [
    "BBOX",
    "REF_OBJECT",
    "Box",
    "Coordinates",
    "Found",
    "Grounded",
    "InvalidObjects",
    "Malformed",
    "Mark",
    "Notation",
    "Objects",
    "PictureSize",
    "Point",
    "Polygon",
    "Shape",
    "Units",
    "check_objects",
    "check_shape",
    "find_placeholders",
    "iou",
    "load_notation",
    "notations",
    "render_objects",
    "replace_placeholders",
    "to_shape",
    "to_shapes",
    "to_units",
]

REF_OBJECT, BBOX = "<ref-object>", "<bbox>"
"""What a row's texts say where the name of a thing, or its coordinates, belong."""

_PLACEHOLDER = re.compile(f"{REF_OBJECT}|{BBOX}")


@dataclass(frozen=True)
class Objects:
    """The things that a row's texts speak of.

    Args:
        refs: names, one for each <ref-object>.
        boxes: coordinates, one list for each <bbox>: [x, y], [x1, y1, x2, y2], or three corners and more.
        units: what the coordinates count.
        image_ids: for each of `boxes`, which picture of the row it is in, from 0; empty is the only picture.
    """

    refs: tuple[str, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()
    units: Units = "real"
    image_ids: tuple[int, ...] = ()


def to_shapes(objects: Objects, sizes: Sequence[PictureSize]) -> list[Shape]:
    """Read the coordinates of a row, in pixels of their pictures.

    Raises:
        InvalidObjects: coordinates that `to_shape` refuses (messages count from 1), or a picture that is not there.
    """
    units = to_units(objects.units)
    return [
        to_shape(numbers, size, units=units, what=f"box {at}")
        for at, (numbers, size) in enumerate(zip(objects.boxes, _sizes_of(objects, sizes), strict=True), start=1)
    ]


def check_objects(texts: Sequence[str], objects: Objects) -> None:
    """Refuse a row that has more or fewer names or boxes than its texts have places for.

    Raises:
        InvalidObjects: the counts differ.
    """
    for placeholder, field, given in ((REF_OBJECT, "refs", objects.refs), (BBOX, "boxes", objects.boxes)):
        places = sum(text.count(placeholder) for text in texts)
        if places != len(given):
            raise InvalidObjects(
                f"the texts have {places} times {placeholder!r} and the objects have {len(given)} {field}; "
                "expected as many of one as of the other"
            )


def replace_placeholders(
    texts: Sequence[str], objects: Objects, sizes: Sequence[PictureSize], notation: Notation
) -> list[str]:
    """Write names and coordinates into texts, in order over all of them.

    What is written in is not searched for placeholders again, so a thing may be called '<bbox>'.

    Args:
        texts: the contents of all messages of a row.
        objects: what belongs into them.
        sizes: of the pictures of the row, in order.
        notation: of the model that will read it.

    Raises:
        InvalidObjects: wrong counts, coordinates that `to_shape` refuses, or what the notation cannot write.
    """
    written = iter(render_objects(texts, objects, sizes, notation))
    return [_PLACEHOLDER.sub(lambda _: next(written), text) for text in texts]


def render_objects(
    texts: Sequence[str], objects: Objects, sizes: Sequence[PictureSize], notation: Notation
) -> list[str]:
    """Return what stands in the place of each placeholder, in order over all texts; see `replace_placeholders`."""
    check_objects(texts, objects)
    shapes = to_shapes(objects, sizes)
    refs = iter(objects.refs)
    placed = iter(zip(shapes, _sizes_of(objects, sizes), strict=True))

    def write(match: re.Match[str]) -> str:
        if match.group() == REF_OBJECT:
            return notation.render_ref(next(refs), quoted=match.string[match.start() - 1 : match.start()] == '"')
        return notation.render(*next(placed))

    return [write(match) for text in texts for match in find_placeholders(text)]


def find_placeholders(text: str) -> list[re.Match[str]]:
    """Return the places of names and coordinates in a text."""
    return list(_PLACEHOLDER.finditer(text))


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of each box of `a` with each of `b`.

    iou_nm = |a_n and b_m| / |a_n or b_m|, and 0 where neither has an area.

    Args:
        a: (N, 4), x1, y1, x2, y2; no box is 0 boxes.
        b: (M, 4).

    Returns:
        float64 (N, M), 0 to 1.

    Raises:
        InvalidObjects: another shape, swapped corners, or a number that is none.
    """
    first, second = _to_array(a, "a"), _to_array(b, "b")
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    overlap = np.zeros(shared.shape)
    np.divide(shared, union, out=overlap, where=union > 0)
    return overlap


def _sizes_of(objects: Objects, sizes: Sequence[PictureSize]) -> list[PictureSize]:
    """Return the size of the picture of each box."""
    if not objects.boxes:
        return []
    if not objects.image_ids:
        if len(sizes) != 1:
            raise InvalidObjects(
                f"the row has boxes and {len(sizes)} pictures; expected one picture, or image_ids that say for each "
                "box which picture it is in"
            )
        return [sizes[0]] * len(objects.boxes)
    if len(objects.image_ids) != len(objects.boxes):
        raise InvalidObjects(
            f"there are {len(objects.image_ids)} image_ids and {len(objects.boxes)} boxes; expected one for each box"
        )
    for at, image in enumerate(objects.image_ids, start=1):
        if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < len(sizes):
            raise InvalidObjects(
                f"box {at} is in picture {image!r} of {len(sizes)}; expected 0 to {len(sizes) - 1}, counted from 0"
            )
    return [sizes[image] for image in objects.image_ids]


def _to_array(boxes: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InvalidObjects(f"{name} has shape {array.shape}; expected (N, 4): x1, y1, x2, y2 of each box")
    if not np.isfinite(array).all() or (array[:, 2:] < array[:, :2]).any():
        raise InvalidObjects(f"{name} holds a box that is none; expected numbers with x1 <= x2 and y1 <= y2")
    return array
