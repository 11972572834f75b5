"""Lists of numbers in text: writing them, and reading whatever a model made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..grounding_notation import NUMBER

Lists = tuple[tuple[float, ...], ...]

_LEAF = re.compile(r"\[([^\[\]]*)\]")
_COMMAS = re.compile(rf"\s*{NUMBER}(?:\s*,\s*{NUMBER})*\s*")
_SPACES = re.compile(rf"\s*{NUMBER}(?:\s+{NUMBER})*\s*")
_PAIR = rf"\(\s*{NUMBER}\s*,\s*{NUMBER}\s*\)"
_PAIRS = re.compile(rf"\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*")
_BRACKET_OR_FOREIGN = re.compile(r"[\[\]]|[^\[\]\d\s,;.\-]")


@dataclass(frozen=True)
class Body:
    """What stands between two marks.

    Args:
        write: makes text of numbers that are written already.
        read: makes lists of numbers of text, or says why there are none.
    """

    write: Callable[[Sequence[str]], str]
    read: Callable[[str], Lists | str]


def read_lists(text: str) -> Lists | str:
    """Read '[[1, 2, 3, 4], [5, 6, 7, 8]]', '[[1,2,3,4;5,6,7,8]]' or '[1, 2, 3, 4]'."""
    lists: list[tuple[float, ...]] = []
    for leaf in _LEAF.findall(text):
        for part in leaf.split(";"):
            if not _COMMAS.fullmatch(part):
                return "a list that is not numbers and commas; expected [x1, y1, x2, y2]"
            lists.append(_numbers(part))
    if not lists or not set(_LEAF.sub("", text)) <= set("[], \t\r\n"):
        return "not a list of numbers; expected [[x1, y1, x2, y2]]"
    return tuple(lists)


def read_pairs(text: str) -> Lists | str:
    """Read '(1,2),(3,4)'."""
    if not _PAIRS.fullmatch(text):
        return "not pairs of numbers; expected (x1,y1),(x2,y2)"
    return (_numbers(text),)


def read_spaced(text: str) -> Lists | str:
    """Read '1 2 3 4'."""
    if not _SPACES.fullmatch(text):
        return "not numbers with spaces between them; expected x1 y1 x2 y2"
    return (_numbers(text),)


def find_brackets(text: str) -> Iterator[tuple[int, int, bool]]:
    """Find the outermost [...] with nothing but numbers and punctuation inside.

    Yields:
        Start, end, and whether it is closed; one that is not ends before the first foreign character.
    """
    depth = start = 0
    for token in _BRACKET_OR_FOREIGN.finditer(text):
        if token.group() == "[":
            if not depth:
                start = token.start()
            depth += 1
        elif token.group() == "]":
            if depth == 1:
                yield start, token.end(), True
            depth = max(depth - 1, 0)
        elif depth:
            yield start, token.start(), False
            depth = 0
    if depth:
        yield start, len(text), False


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in re.findall(NUMBER, text))


def _write_pairs(numbers: Sequence[str]) -> str:
    return ",".join(f"({x},{y})" for x, y in zip(numbers[::2], numbers[1::2], strict=True))


PAIRS = Body(write=_write_pairs, read=read_pairs)
NESTED = Body(write=lambda numbers: f"[[{', '.join(numbers)}]]", read=read_lists)
SPACED = Body(write=" ".join, read=read_spaced)
