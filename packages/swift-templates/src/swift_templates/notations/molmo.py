"""Molmo: points in per cent of the sides, as attributes of a tag.

    <point x="61.5" y="40.4" alt="a corner">a corner</point>
    <points x1="61.5" y1="40.4" x2="10.0" y2="20.0" alt="corners">corners</points>

Each number is round(pixels / side * 100, 1), 0.0 to 100.0. Points only. In the place of <bbox> stand the attributes
only, x="61.5" y="40.4", so that a row can spell the tag itself.

Source: Molmo's maintainers, in the discussions of Molmo-7B-O-0924.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import NUMBER, Coordinates, Mark, Notation
from ..grounding_shapes import PictureSize, Shape

_TAG = re.compile(r"<points? [^<>]*(>|(?=<)|$)")
_PAIR = re.compile(rf'\bx(\d{{0,4}})="\s*({NUMBER})\s*"\s+y\1="\s*({NUMBER})\s*"')
_ALT = re.compile(r'\balt="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class _Molmo(Notation):
    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        return html.escape(ref)

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        tags = []
        for label, shape in objects:
            name = self.render_ref(label or "")
            tags.append(f'<point {self.render(shape, size)} alt="{name}">{name}</point>')
        return " ".join(tags)

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        x, y = map(self.coordinates.write, numbers)
        return f'x="{x}" y="{y}"'

    def _scan(self, text: str) -> Iterator[Mark]:
        for tag in _TAG.finditer(text):
            pairs = _PAIR.findall(tag.group())
            alt = _ALT.search(tag.group())
            if not tag.group(1):
                yield Mark(start=tag.start(), end=tag.end(), reason="the tag is not closed; expected '>' after it")
            elif not pairs:
                yield Mark(start=tag.start(), end=tag.end(), reason='a tag without x="..." y="..." in it')
            else:
                yield Mark(
                    start=tag.start(),
                    end=tag.end(),
                    label=html.unescape(alt.group(1)) or None if alt else None,
                    lists=tuple((float(x), float(y)) for _, x, y in pairs),
                )


MOLMO = _Molmo(name="molmo", coordinates=Coordinates(scale=100, decimals=1), corners=(1,))
