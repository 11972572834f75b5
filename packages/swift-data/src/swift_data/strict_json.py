"""JSON as the standard has it, without the NaN and Infinity that Python's own decoder takes as well."""

from __future__ import annotations

import json


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


# One for all rows: json.loads would make a decoder for each.
DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
