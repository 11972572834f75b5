"""Foreign text made fit for a terminal, which would obey the control sequences in it."""

from __future__ import annotations

# Joiners are part of emoji and of words in several scripts; the other invisible characters reorder or hide text.
_HARMLESS = frozenset("\n\t\u200c\u200d")


def escape_control(text: str) -> str:
    r"""Write control characters as escapes, such as \x1b; newlines, tabs and spaces of all kinds stay.

    Each character is looked at alone, so pieces of a stream can be escaped one by one.
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    # Python calls spaces other than the plain one not printable; control characters that are spaces too stay out.
    is_space = character.isspace() and character not in "\u2028\u2029" and ord(character) >= 0xA0
    if character.isprintable() or character in _HARMLESS or is_space:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
