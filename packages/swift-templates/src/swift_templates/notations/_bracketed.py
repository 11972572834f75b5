"""Notations that are lists of numbers in the middle of a text, as in [100, 200, 300, 400]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import Mark, Notation
from ..grounding_shapes import PictureSize, Shape
from ._lists import find_brackets, read_lists


@dataclass(frozen=True, kw_only=True)
class BracketNotation(Notation):
    """A list of numbers; names are plain text, so an answer's labels cannot be told from the rest of it.

    Args:
        opens: the brackets before the numbers.
        comma: what stands between two numbers.
    """

    opens: str = "["
    comma: str = ", "

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        """Write a line for each object: its name, a space, its list."""
        return "\n".join(
            ("" if label is None else f"{self.render_ref(label)} ") + self.render(shape, size)
            for label, shape in objects
        )

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        return self.opens + self.comma.join(map(self.coordinates.write, numbers)) + "]" * len(self.opens)

    def _scan(self, text: str) -> Iterator[Mark]:
        for start, end, closed in find_brackets(text):
            piece = text[start:end]
            # [1] is a footnote, [] a list of nothing, [x] an empty box of a form.
            if sum(map(piece.count, ",;")) == 0 or not piece.startswith(self.opens):
                continue
            read = read_lists(piece) if closed else "it is not closed; expected ']' after it"
            if isinstance(read, str):
                yield Mark(start=start, end=end, reason=read)
            else:
                yield Mark(start=start, end=end, lists=read)
