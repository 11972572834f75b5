"""Qwen2-VL: thousandths between special tokens.

    <|object_ref_start|>the dog<|object_ref_end|><|box_start|>(536,509),(588,602)<|box_end|>
    <|object_ref_start|>a corner<|object_ref_end|><|box_start|>(536,509)<|box_end|>
    <|object_ref_start|>a sign<|object_ref_end|><|quad_start|>(10,10),(90,12),(88,60),(9,58)<|quad_end|>

Each number is round(1000 * pixels / side), 999 at most ("[0, 1000)"), so the far edge itself comes back one
thousandth inside; an answer may say 1000. The marks are special tokens: decode an answer with them.

Source: Qwen2-VL, arXiv 2409.12191, section 2.2.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._lists import PAIRS
from ._marked import MarkedNotation, Pair

QWEN2_VL = MarkedNotation(
    name="qwen2_vl",
    coordinates=Coordinates(scale=1000, last=999),
    corners=(1, 2, 4),
    ref=("<|object_ref_start|>", "<|object_ref_end|>"),
    pairs=(
        Pair(opens="<|box_start|>", closes="<|box_end|>", corners=(1, 2)),
        Pair(opens="<|quad_start|>", closes="<|quad_end|>", corners=(4,)),
    ),
    body=PAIRS,
)
