"""DeepSeek-VL2 (and DeepSeek-OCR): parts of 999 in nested lists between special tokens.

    <|ref|>The giraffe at the back.<|/ref|><|det|>[[580, 270, 999, 904]]<|/det|>

Each number is round(999 * pixels / side): 0 is the left or upper edge, 999 the right or lower one. Several boxes of
one name stand in one list, [[...], [...]]. Boxes only. The marks are special tokens: decode an answer with them.

Source: DeepSeek-VL2's README, and its demo, which divides by 999.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._lists import NESTED
from ._marked import MarkedNotation, Pair

DEEPSEEK_VL2 = MarkedNotation(
    name="deepseek_vl2",
    coordinates=Coordinates(scale=999),
    corners=(2,),
    ref=("<|ref|>", "<|/ref|>"),
    pairs=(Pair(opens="<|det|>", closes="<|/det|>", corners=(2,)),),
    body=NESTED,
)
