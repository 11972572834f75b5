"""JSON as the standard has it, without what Python's own decoder takes as well.

That is NaN and Infinity, and an object with one key twice, of whose values all but the last would be lost.
"""

from __future__ import annotations

import json


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    item = dict(pairs)
    if len(item) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice; keep one")
    return item


# One for all rows: json.loads would make a decoder for each.
DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
SCANNER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Finds where a value ends. It takes keys that stand twice, which cost their row only, and not what follows it."""
