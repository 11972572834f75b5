"""A sample as the model sees it, with the trained tokens marked: to be looked at before a run begins.

Trained text stands between « and », or in colour; a weight other than 1 is written after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .encoded import Encoded
from .template import Template
from .terminal import escape_control

_COLOUR, _PLAIN = "\x1b[1;32m", "\x1b[0m"


def describe_sample(template: Template, encoded: Encoded, color: bool) -> str:
    """Write a sample as text.

    Args:
        template: what encoded it.
        encoded: the sample.
        color: mark trained text by ANSI colour (for a terminal) instead of by « and ».

    Returns:
        The whole text, control tokens included; escape characters in it are shown as such, never sent to the terminal.
    """
    opening, closing = (_COLOUR, _PLAIN) if color else ("«", "»")
    parts = []
    for weight, start, end in _runs(encoded):
        decode = template.tokenizer.decode_after if start else template.tokenizer.decode
        text = escape_control(decode(encoded.input_ids[start:end].tolist()))
        if weight > 0:
            text = f"{opening}{text}{closing}" + (f"(x{weight:g})" if weight != 1 else "")
        parts.append(text)
    return "".join(parts)


def _runs(encoded: Encoded) -> Iterator[tuple[float, int, int]]:
    """Yield weight, start and end of each stretch of tokens of one weight."""
    start = 0
    for weight, run in itertools.groupby(encoded.loss_scale.tolist()):
        end = start + sum(1 for _ in run)
        yield float(weight), start, end
        start = end
