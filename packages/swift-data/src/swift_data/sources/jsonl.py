"""JSON Lines: one JSON object a line, in UTF-8.

Each line stands alone, so a broken one costs only itself. Blank lines are ignored, and so is a byte order mark.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadRow
from ..json_rows import parse_object
from ..source import Origin, RawRow
from ..text_source import LineSource


class JsonLines(LineSource):
    """Reads .jsonl files; .ndjson is another name for them."""

    suffixes = (".jsonl", ".ndjson")
    example = (
        '{"query": "What is 2 + 2?", "response": "4"}\n'
        "\n"
        '{"query": "Größe?", "response": "日本\u2028語", "solution": "語"}\r\n'
    ).encode()

    def parse(self, content: bytes, origin: Origin, header: Sequence[str]) -> RawRow | BadRow:
        """Read a line."""
        row = parse_object(content, origin)
        if isinstance(row, BadRow) and origin.line == 1 and content.lstrip().startswith(b"["):
            hint = "an array of rows is another kind of file: rename it to .json"
            return BadRow(row.reason, f"{row.problem}; {hint}", origin)
        return row
