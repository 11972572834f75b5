"""How much a chat template may use, and the meter that stops it before it takes more.

Whatever makes a value asks the meter first whether the result may be so large (`expect`), and shows it the result
(`made`). The size of a list is that of all it holds, however deep and however often, since that is what writing it out
or comparing it costs.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import ItemsView, Iterable, KeysView, ValuesView
from dataclasses import dataclass

from .errors import RenderLimitExceeded

_CONTAINERS = (list, tuple, set, frozenset, ItemsView, KeysView, ValuesView)
_MAX_INT_BITS = 65_536
_WEIGHED_PER_TICK = 10_000
_ITEM_BYTES = 64  # what an item of a list takes, about, with the small object that it is


@dataclass(frozen=True, kw_only=True)
class RenderLimits:
    """How much a chat template may use."""

    source_chars: int = 1_000_000
    output_chars: int = 32_000_000
    value_items: int = 8_000_000
    """Characters of a text, or items of a list and characters of the texts in it, that an expression may make."""
    made_bytes: int = 500_000_000
    """Bytes of all values together that one rendering may make, kept or not."""
    range_items: int = 100_000
    time_s: float = 10.0


class Meter(threading.local):
    """What the rendering that goes on in this thread has used."""

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self.marks: tuple[str, str] | None = None
        self._deadline = self._made_bytes = 0.0

    def start(self) -> None:
        """Begin a rendering."""
        self._deadline = time.monotonic() + self.limits.time_s
        self._made_bytes = 0

    def tick(self) -> None:
        """Look at the time."""
        if time.monotonic() > self._deadline:
            raise RenderLimitExceeded(f"the chat template ran for more than {self.limits.time_s:g} s; it was stopped")

    def expect(self, size: int) -> None:
        """Refuse to make a value of this size if it is too large."""
        if size > self.limits.value_items:
            raise RenderLimitExceeded(
                f"the chat template makes a value of more than {self.limits.value_items} characters or items; "
                "it was stopped"
            )

    def made(self, value: object) -> object:
        """Return a value that an expression made, if it is not too large and not too much in all."""
        if type(value) is str:
            self.made_text(value)
            return value
        if isinstance(value, int):
            self.expect_int(value.bit_length())
        if isinstance(value, (str, dict, *_CONTAINERS)):
            self.expect(self.weigh(value))
            self._count(sys.getsizeof(value) + (0 if isinstance(value, str) else _ITEM_BYTES * len(value)))
        return value

    def made_text(self, text: str) -> None:
        """Do what `made` does, for what most values are, in a third of the time."""
        if len(text) > self.limits.value_items:
            self.expect(len(text))
        self._count(sys.getsizeof(text))

    def _count(self, num_bytes: int) -> None:
        self._made_bytes += num_bytes
        if self._made_bytes > self.limits.made_bytes:
            raise RenderLimitExceeded(
                f"the chat template makes values of more than {self.limits.made_bytes} bytes in all; it was stopped"
            )

    def expect_int(self, bits: int) -> None:
        """Refuse to make, or to divide, a whole number of so many bits if that is too large."""
        if bits > _MAX_INT_BITS:
            raise RenderLimitExceeded(
                f"the chat template computes with a number of more than {_MAX_INT_BITS} bits; it was stopped"
            )

    def listed(self, values: Iterable[object]) -> list[object]:
        """Return the values as a list, and stop taking them where there are too many."""
        items = list(itertools.islice(values, self.limits.value_items + 1))
        self.expect(len(items))
        return items

    def weigh(self, value: object) -> int:
        """Return the characters and items that a value holds; where they are too many, any number above the limit."""
        total = num_seen = 0
        waiting: list[Iterable[object]] = [(value,)]
        while waiting and total <= self.limits.value_items:
            # A text or number is looked at where it is found: most of what there is are these.
            for each in waiting.pop():
                if isinstance(each, str):
                    total += len(each)
                elif isinstance(each, int):
                    total += each.bit_length() // 3 if each.bit_length() > 64 else 0
                elif isinstance(each, dict):
                    total += len(each)
                    waiting += [each.keys(), each.values()]
                elif isinstance(each, _CONTAINERS):
                    total += len(each)
                    waiting.append(each)
            num_seen += 1
            if num_seen % _WEIGHED_PER_TICK == 0:
                self.tick()
        return total
