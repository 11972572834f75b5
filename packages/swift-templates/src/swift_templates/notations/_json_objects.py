"""Notations that are JSON objects, as in {"bbox_2d": [1, 2, 3, 4], "label": "dog"}."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import Mark, Notation
from ..grounding_shapes import PictureSize, Shape

_OBJECT = re.compile(r'\{(?=\s*")')

# Objects inside of one another that are never closed are each read to the end: so many times at most.
_MAX_READINGS = 20


@dataclass(frozen=True, kw_only=True)
class JsonNotation(Notation):
    """A JSON array of objects with coordinates and a label, between ```json and ```.

    In the place of <bbox> stands the list of numbers only, and in the place of <ref-object> the name as it is (with
    JSON's escapes between quotation marks), so that a row can spell the object itself.

    Args:
        box_key: of a box's numbers.
        point_key: of a point's numbers.
        label_key: of the name.
    """

    box_key: str = "bbox_2d"
    point_key: str = "point_2d"
    label_key: str = "label"

    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        """Write a name; between quotation marks with JSON's escapes."""
        return json.dumps(ref, ensure_ascii=False)[1:-1] if quoted else ref

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        """Write a fenced array with one object a line, a tab before each."""
        lines = []
        for label, shape in objects:
            key = self.point_key if len(shape.corners) == 1 else self.box_key
            name = "" if label is None else f', "{self.label_key}": {json.dumps(label, ensure_ascii=False)}'
            lines.append(f'\t{{"{key}": {self.render(shape, size)}{name}}}')
        return "```json\n[\n" + ",\n".join(lines) + "\n]\n```"

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        return f"[{', '.join(map(self.coordinates.write, numbers))}]"

    def _scan(self, text: str) -> Iterator[Mark]:
        decoder = json.JSONDecoder()
        place = spent = 0
        while match := _OBJECT.search(text, place):
            place = match.start()
            try:
                value, end = decoder.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                said, read_to = "too large or too deep", len(text)
                if isinstance(error, json.JSONDecodeError):
                    said, read_to = error.msg, error.pos
                # The error counts the lines in front of it, which takes a sixteenth of the time of reading them.
                spent += read_to - place + read_to // 16
                following = _OBJECT.search(text, place + 1)
                end = following.start() if following and spent < _MAX_READINGS * len(text) else len(text)
                if any(f'"{key}"' in text[place:end] for key in (self.box_key, self.point_key)):
                    yield Mark(start=place, end=end, reason=f"broken or cut JSON: {said}")
            else:
                for each in _objects(value):
                    yield from self._to_marks(each, place, end)
            place = end

    def _to_marks(self, value: dict[str, object], start: int, end: int) -> Iterator[Mark]:
        label = value.get(self.label_key)
        for key, corners in ((self.box_key, 2), (self.point_key, 1)):
            if key not in value:
                continue
            numbers = _to_numbers(value[key])
            if numbers is None:
                yield Mark(start=start, end=end, reason=f"{key!r} is not a list of numbers")
                continue
            name = label if isinstance(label, str) else None
            yield Mark(start=start, end=end, label=name, lists=(numbers,), corners=(corners,))


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Find the objects inside of a value; those inside of others too, outer ones first."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(reversed(each.values()))
        elif isinstance(each, list):
            waiting.extend(reversed(each))


def _to_numbers(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, list):
        return None
    numbers = []
    for each in value:
        # Without this, a whole number of 400 digits overflows as a float.
        if isinstance(each, bool) or not isinstance(each, int | float) or not -1e9 < each < 1e9 or math.isnan(each):
            return None
        numbers.append(float(each))
    return tuple(numbers)
