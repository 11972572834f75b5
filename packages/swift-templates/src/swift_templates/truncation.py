"""A sample cut to a length.

What is cut off is gone: the caller counts, and says so.
"""

from __future__ import annotations

from typing import Literal

from .encoded import Encoded


def truncate(encoded: Encoded, length: int, side: Literal["delete", "left", "right"]) -> Encoded | None:
    """Cut a sample that is longer than `length`.

    Args:
        encoded: the sample.
        length: most tokens that may stay, at least 1.
        side: where tokens are taken away; 'delete' takes the sample away.

    Returns:
        The rest of the sample; None if nothing is left that is trained.
    """
    if side == "delete":
        return None
    kept = slice(-length, None) if side == "left" else slice(length)
    rest = Encoded(encoded.input_ids[kept], encoded.labels[kept], encoded.loss_scale[kept], encoded.media)
    return rest if rest.num_trained else None
