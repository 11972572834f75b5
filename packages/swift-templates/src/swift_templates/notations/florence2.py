"""Florence-2: tokens of a thousand cells, after the name.

    cat<loc_229><loc_246><loc_904><loc_872>dog<loc_50><loc_100><loc_400><loc_300>
    corner<loc_229><loc_246>
    sign<poly><loc_10><loc_10><loc_90><loc_12><loc_88><loc_60></poly>

Each number is that of a cell, floor(pixels / (side / 1000)), 0 to 999, and is read back as the cell's middle. A name
is followed by one box or several, four tokens each. A polygon stands between <poly> and </poly>, <sep> parting
several; without these marks, tokens in other numbers than fours are one point (2) or one polygon (6, 10, ...).

Source: transformers' Florence2PostProcessor; it cuts the pixels off to whole ones, here they keep their fractions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import Coordinates, Mark, Notation
from ..grounding_shapes import PictureSize, Polygon, Shape

_LOC = r"<loc_\d{1,4}>"
_RUN = re.compile(rf"(?P<polygon><poly>)?(?P<tokens>{_LOC}(?:(?:<sep>)?{_LOC})*)(?:</poly>)?")
_NO_NAME = re.compile(r"</?(?:s|pad|poly|sep|od|box|bbox)>")
_CUT = re.compile(r"<(?:l(?:o(?:c(?:_\d{0,4})?)?)?)?$")


@dataclass(frozen=True, kw_only=True)
class _Florence2(Notation):
    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        self._check_ref(ref, ("<loc_", *_NO_NAME.findall(ref)))
        return ref

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        return "".join(
            ("" if label is None else self.render_ref(label)) + self.render(shape, size) for label, shape in objects
        )

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        tokens = "".join(f"<loc_{int(number)}>" for number in numbers)
        return f"<poly>{tokens}</poly>" if isinstance(shape, Polygon) else tokens

    def _scan(self, text: str) -> Iterator[Mark]:
        label, name_start = None, 0
        for run in _RUN.finditer(text):
            # A name stands before its first run only: several polygons follow one.
            label = _NO_NAME.sub("", text[name_start : run.start()]).strip() or label
            name_start = run.end()
            lists = tuple(
                tuple(float(each) for each in re.findall(r"\d+", part)) for part in run.group("tokens").split("<sep>")
            )
            if not run.group("polygon") and len(lists) == 1 and len(lists[0]) % 4 == 0:
                lists = tuple(lists[0][at : at + 4] for at in range(0, len(lists[0]), 4))
            reason = ""
            if run.group("polygon") and min(map(len, lists)) < 6:
                reason = "a polygon of less than three corners; expected 6 <loc_...> tokens or more"
            yield Mark(start=run.start(), end=run.end(), label=label, lists=lists, reason=reason)
        cut = _CUT.search(text, max(name_start, len(text) - 9))
        if cut and len(cut.group()) > 1:
            yield Mark(start=cut.start(), end=len(text), reason="it is cut inside of a <loc_...> token")


FLORENCE2 = _Florence2(name="florence2", coordinates=Coordinates(scale=1000, cells=True))
