"""Whether the samples of a run can be joined end to end, and with which attention: tried on the model, not assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swift_tuners import SwiftModel
from swift_tuners.errors import UnsupportedConfig

from .document_attention import DocumentAttention, find_attention
from .isolation import measure_leak


@dataclass(frozen=True, kw_only=True)
class Joining:
    """How samples share a forward pass.

    Attributes:
        pads: each sample has a row of its own, filled up; else they are joined end to end.
        attention: computes joined samples one by one; None leaves it to the model, which keeps them apart by itself.
    """

    pads: bool
    attention: DocumentAttention | None = None


def choose_joining(
    model: SwiftModel,
    *,
    vocabulary: int,
    longest: int,
    has_media: bool,
    wants_packing: bool,
    say: Callable[[str], None],
) -> Joining:
    """Find out how samples of a run can share a forward pass.

    Args:
        model: with its tuners.
        vocabulary: number of token ids to draw from.
        longest: tokens of the longest sample.
        has_media: whether samples have pictures, videos or sounds.
        wants_packing: whether the user asked for packs.
        say: tells the user of what is done unasked.
    """
    padded = "--packing has no effect: samples are padded" if wants_packing else "samples are padded instead of joined"
    if has_media:
        say(f"Rows have pictures, videos or sounds; {padded}.")
        return Joining(pads=True)
    attention = find_attention(model, longest=longest)
    try:
        leak = measure_leak(model, vocabulary=vocabulary, attention=attention)
        if leak.is_apart:
            return Joining(pads=False, attention=attention)
        if attention is not None and (leak := measure_leak(model, vocabulary=vocabulary)).is_apart:
            return Joining(pads=False)
    except UnsupportedConfig as error:
        say(f"{error}; {padded}.")
        return Joining(pads=True)
    say(
        f"This model does not keep joined samples apart (logits move by {max(leak.relative, leak.from_alone):.2f} of "
        f"their spread); {padded}."
    )
    return Joining(pads=True)
