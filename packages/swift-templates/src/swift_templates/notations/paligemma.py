"""PaliGemma 1 and 2: four tokens out of 1024, y before x, then the name.

    <loc0246><loc0229><loc0872><loc0904> cat ; <loc0100><loc0050><loc0300><loc0400> dog

Each number is round(1023 * pixels / side): y1, x1, y2, x2; 0 is the upper or left edge, 1023 the lower or right one.
Boxes only; the <seg...> tokens that a segmentation adds are stepped over.

Source: big_vision, pp/proj/paligemma/segmentation.py writes so and its evaluator reads so; others divide by 1024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import Coordinates, Mark, Notation
from ..grounding_shapes import PictureSize, Shape

_RUN = re.compile(r"((?:<loc\d{4}>)+)((?:<seg\d{3}>)*)")


@dataclass(frozen=True, kw_only=True)
class _PaliGemma(Notation):
    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        self._check_ref(ref, ("<loc", "<seg", ";"))
        return ref

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        return " ; ".join(
            self.render(shape, size) + ("" if label is None else f" {self.render_ref(label)}")
            for label, shape in objects
        )

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        return "".join(f"<loc{int(number):04d}>" for number in numbers)

    def _scan(self, text: str) -> Iterator[Mark]:
        runs = list(_RUN.finditer(text))
        ends = [*(run.start() for run in runs[1:]), len(text)]
        for run, end in zip(runs, ends, strict=False):
            name = text[run.end() : end].partition(";")[0]
            if "<loc" in name:
                yield Mark(start=run.start(), end=run.end() + len(name), reason="it is cut inside of a <loc....> token")
                continue
            numbers = tuple(float(each) for each in re.findall(r"\d{4}", run.group(1)))
            yield Mark(start=run.start(), end=run.end(), label=name.strip() or None, lists=(numbers,))


PALIGEMMA = _PaliGemma(name="paligemma", coordinates=Coordinates(scale=1023, y_first=True), corners=(2,))
