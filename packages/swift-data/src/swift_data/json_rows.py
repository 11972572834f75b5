"""A row in JSON: the bytes of one object, or what is wrong with them."""

from __future__ import annotations

import json

from .errors import BadRow
from .fields import shorten
from .source import Origin, RawRow
from .strict_json import DECODER


def parse_object(content: bytes, origin: Origin) -> RawRow | BadRow:
    """Read the text of a row, which is an object in UTF-8."""
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        return BadRow("not JSON", f"byte {error.start} of the line is not UTF-8; save the file as UTF-8", origin)
    try:
        row = DECODER.decode(text)
    except json.JSONDecodeError as error:
        return BadRow("not JSON", f"not JSON: {error.msg} at character {error.colno} of {shorten(text)}", origin)
    except (ValueError, RecursionError) as error:
        # NaN, a number of thousands of digits, thousands of brackets.
        return BadRow("not JSON", f"not JSON: {error} in {shorten(text)}", origin)
    if not isinstance(row, dict):
        kind = type(row).__name__
        return BadRow("not an object", f"expected a JSON object, found a {kind}: {shorten(text)}", origin)
    return RawRow(row, origin)
