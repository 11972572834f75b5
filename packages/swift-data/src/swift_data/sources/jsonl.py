"""JSON Lines: one JSON object a line, in UTF-8.

Each line stands alone, so a broken one costs only itself. Blank lines are ignored, and so is a byte order mark.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadRow
from ..fields import shorten
from ..source import Origin, RawRow, Source
from ..strict_json import DECODER


class JsonLines(Source):
    """Reads .jsonl files."""

    suffixes = (".jsonl",)
    example = (
        '{"query": "What is 2 + 2?", "response": "4"}\n'
        "\n"
        '{"query": "Größe?", "response": "日本\u2028語", "solution": "語"}\r\n'
    ).encode()

    def read(self, path: Path) -> Iterator[RawRow | BadRow]:
        """Yield a row for each line that is not blank."""
        name = str(path)
        # In bytes, since text files also end lines at characters that JSON allows inside of strings.
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield _parse(content, Origin(name, number))


def _parse(line: bytes, origin: Origin) -> RawRow | BadRow:
    try:
        text = line.decode("utf-8").strip()
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
