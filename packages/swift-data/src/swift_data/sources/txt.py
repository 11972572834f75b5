"""Plain text: each line is a row with one column, `text`, in UTF-8.

Blank lines are ignored, and so is a byte order mark. A text that has lines of its own needs another kind of file, such
as .jsonl, where a line end is written as a backslash and an n.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadRow
from ..source import Origin, RawRow
from ..text_source import LineSource


class TextLines(LineSource):
    """Reads .txt files."""

    suffixes = (".txt",)
    reads_any_text = True
    example = "What is 2 + 2?\n\n  Größe? 日本\u2028語\r\n".encode()
    example_rows = ({"text": "What is 2 + 2?"}, {"text": "  Größe? 日本\u2028語"})

    def parse(self, content: bytes, origin: Origin, header: Sequence[str]) -> RawRow | BadRow:
        """Read a line."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            return BadRow("not text", f"byte {error.start} of the line is not UTF-8; save the file as UTF-8", origin)
        if "\0" in text:
            return BadRow("not text", "the line holds a NUL character; expected text, not a binary file", origin)
        return RawRow({"text": text.rstrip("\r\n")}, origin)
