"""Qwen-VL 1: parts of 999 between words in angle brackets.

    <ref>the dog</ref><box>(536,509),(588,602)</box>
    <ref>a corner</ref><box>(536,509)</box>
    <ref>a sign</ref><quad>(10,10),(90,12),(88,60),(9,58)</quad>

Each number is round(999 * pixels / side): 0 is the left or upper edge, 999 the right or lower one.

Source: Qwen-VL's evaluation on RefCOCO, which divides by 999; its README says "[0, 1000)".
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._lists import PAIRS
from ._marked import MarkedNotation, Pair

QWEN_VL = MarkedNotation(
    name="qwen_vl",
    coordinates=Coordinates(scale=999),
    corners=(1, 2, 4),
    ref=("<ref>", "</ref>"),
    pairs=(
        Pair(opens="<box>", closes="</box>", corners=(1, 2)),
        Pair(opens="<quad>", closes="</quad>", corners=(4,)),
    ),
    body=PAIRS,
)
