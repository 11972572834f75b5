"""`objects`: the things and boxes that the texts' `<ref-object>` and `<bbox>` stand for.

They are kept as the row has them (but a list of things becomes an object of lists), and checked for their form and
number here. Whether a box lies in its picture, and what a model writes in its place, is the business of the template,
which knows the picture's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from swift_templates.messages import JSON, Message

from .errors import BadRow
from .fields import from_json, quote, shorten, to_list, to_object, to_text

if TYPE_CHECKING:
    from swift_templates.grounding import Objects

_MARKS: Final = {"ref": "<ref-object>", "bbox": "<bbox>"}
_THING: Final = frozenset(("caption", "bbox", "bbox_type", "image"))
_UNITS: Final = ("real", "norm_1000", "norm_1", "norm1000", "norm1")


def read_objects(value: object, messages: Sequence[Message]) -> Mapping[str, JSON] | None:
    """Return a row's `objects`; None where it has none.

    Args:
        value: the column.
        messages: the row's conversation.

    Raises:
        BadRow: it is no such object, or the texts have another number of placeholders than it has names or boxes.
    """
    if value is None or value in ("", [], {}):
        return None
    # A source's values are JSON.
    raw = cast("Mapping[str, JSON]", to_object(_join_things(value), field="objects"))
    objects = to_objects(raw)
    for (key, mark), given in zip(_MARKS.items(), (objects.refs, objects.boxes), strict=True):
        wanted = sum(message.content.count(mark) for message in messages)
        # Rewards may look at boxes that no text mentions.
        if wanted and wanted != len(given):
            raise BadRow(
                "invalid value",
                f"'objects.{key}' has {len(given)}, and the texts have {wanted} times {mark!r}; expected as many",
            )
    return raw


def _join_things(value: object) -> object:
    """Return the object of lists that a list of things stands for; anything else as it is.

    Source: SWIFT paper, listing 2: each thing has `caption`, `bbox` (one, or a list of them), `bbox_type` and `image`.
    """
    things = from_json(value, opening="[") if isinstance(value, str) else value
    if not isinstance(things, list) or not all(
        isinstance(each, Mapping) and "bbox" in each and _THING.issuperset(each) for each in things
    ):
        return value
    joined: dict[str, list[object]] = {"ref": [], "bbox": [], "image_id": []}
    units = [each.get("bbox_type") or "real" for each in things]
    if any(unit != units[0] for unit in units):
        raise BadRow("invalid value", f"'objects' has several 'bbox_type': {quote(map(str, units))}; expected one")
    for each in things:
        boxes = each["bbox"]
        several = isinstance(boxes, list) and bool(boxes) and all(isinstance(box, list) for box in boxes)
        given = boxes if several else [boxes]
        joined["bbox"] += given
        joined["image_id"] += [each.get("image") or 0] * len(given)
        if each.get("caption") is not None:
            joined["ref"].append(each["caption"])
    return {**joined, "bbox_type": units[0]}


def to_objects(raw: Mapping[str, JSON]) -> Objects:
    """Return what `swift_templates.grounding` makes boxes of.

    Args:
        raw: `ref`, `bbox`, `bbox_type` ('real' where it is missing) and `image_id`, as a row has them.

    Raises:
        BadRow: one of them has not the form that it should.
    """
    # It needs numpy, which most rows don't.
    from swift_templates.grounding import Objects
    from swift_templates.grounding_shapes import to_units

    unit = raw.get("bbox_type") or "real"
    if unit not in _UNITS:
        raise BadRow("invalid value", f"'objects.bbox_type' is {shorten(unit)}; expected one of {quote(_UNITS[:3])}")
    boxes = tuple(_to_box(box, field=f"objects.bbox[{index}]") for index, box in enumerate(_items(raw, "bbox")))
    images = tuple(
        _to_index(each, field=f"objects.image_id[{index}]") for index, each in enumerate(_items(raw, "image_id"))
    )
    if images and len(images) != len(boxes):
        raise BadRow("invalid value", f"'objects.image_id' has {len(images)} for {len(boxes)} boxes; expected as many")
    refs = tuple(to_text(ref, field=f"objects.ref[{index}]") for index, ref in enumerate(_items(raw, "ref")))
    return Objects(refs=refs, boxes=boxes, units=to_units(str(unit)), image_ids=images)


def _items(raw: Mapping[str, JSON], key: str) -> list[object]:
    value = raw.get(key)
    return [] if value is None or value == [] else to_list(value, field=f"objects.{key}", of="them")


def _to_box(value: object, *, field: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) < 2 or len(numbers) % 2 or any(not isinstance(each, int | float) for each in numbers):
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected [x, y] or [x1, y1, x2, y2]")
    return tuple(float(each) for each in numbers)


def _to_index(value: object, *, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRow("invalid value", f"{field!r} is {shorten(value)}; expected the place of a picture, from 0")
    return value
