"""What may be shown: a model's answer is text, and must not steer the terminal it is shown on."""

from __future__ import annotations

from typing import TextIO

from swift_templates import escape_control


def to_shown(text: str, writing: TextIO) -> str:
    """Return text as it is for a file or pipe, and with control characters spelled out for a terminal."""
    return escape_control(text) if writing.isatty() else text
