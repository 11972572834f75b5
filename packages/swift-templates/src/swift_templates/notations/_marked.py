"""Notations with marks around names and around coordinates, as in <ref>dog</ref><box>(1,2),(3,4)</box>."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import Mark, Notation
from ..grounding_shapes import PictureSize, Shape
from ._lists import Body


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Marks around coordinates.

    Args:
        opens: the mark before them.
        closes: the mark after them.
        corners: how many corners a shape between them has; 1 is a point, 2 a box.
    """

    opens: str
    closes: str
    corners: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MarkedNotation(Notation):
    """A name between marks, then coordinates between marks.

    Args:
        ref: the marks around a name.
        pairs: the marks around coordinates, a pair for each kind of shape.
        body: what stands between these.
    """

    ref: tuple[str, str]
    pairs: tuple[Pair, ...]
    body: Body

    def render_ref(self, ref: str, *, quoted: bool = False) -> str:
        """Write a name between its marks."""
        self._check_ref(ref, self._marks())
        return f"{self.ref[0]}{ref}{self.ref[1]}"

    def render_answer(self, objects: Sequence[tuple[str | None, Shape]], size: PictureSize) -> str:
        """Write names and shapes one after the other, with nothing between them."""
        return "".join(
            ("" if label is None else self.render_ref(label)) + self.render(shape, size) for label, shape in objects
        )

    def _write(self, numbers: Sequence[float], shape: Shape) -> str:
        pair = next(each for each in self.pairs if len(shape.corners) in each.corners)
        return pair.opens + self.body.write([self.coordinates.write(number) for number in numbers]) + pair.closes

    def _scan(self, text: str) -> Iterator[Mark]:
        opening = {pair.opens: pair for pair in self.pairs}
        opened: tuple[Pair, re.Match[str]] | None = None
        label, label_end, ref_start = None, 0, -1
        for token in re.finditer("|".join(map(re.escape, self._marks())), text):
            word = token.group()
            if opened and word != opened[0].closes:
                yield _unclosed(opened, token.start())
                opened = None
            if word in opening:
                opened = (opening[word], token)
                label = None if label is None or text[label_end : token.start()].strip() else label
            elif word == self.ref[0]:
                ref_start = token.end()
            elif word == self.ref[1]:
                label = None if ref_start < 0 else text[ref_start : token.start()].strip()
                ref_start, label_end = -1, token.end()
            elif opened:
                yield self._close(text, opened, token.end(), label)
                opened, label_end = None, token.end()
            else:
                yield Mark(start=token.start(), end=token.end(), reason=f"{word!r} closes nothing")
        if opened:
            yield _unclosed(opened, len(text))

    def _close(self, text: str, opened: tuple[Pair, re.Match[str]], end: int, label: str | None) -> Mark:
        pair, token = opened
        read = self.body.read(text[token.end() : end - len(pair.closes)])
        if isinstance(read, str):
            return Mark(start=token.start(), end=end, reason=read)
        return Mark(start=token.start(), end=end, label=label, lists=read, corners=pair.corners)

    def _marks(self) -> list[str]:
        return [*self.ref, *(mark for pair in self.pairs for mark in (pair.opens, pair.closes))]


def _unclosed(opened: tuple[Pair, re.Match[str]], end: int) -> Mark:
    pair, token = opened
    return Mark(start=token.start(), end=end, reason=f"it is not closed; expected {pair.closes!r} after it")
