"""GLM-4.1V, GLM-4.5V and later: thousandths in double brackets.

    the dog [[97,514,283,996]]
    <|begin_of_box|>[[97,514,283,996]]<|end_of_box|>

Each number is round(pixels / side * 1000), 0 to 1000. The models put special tokens around an answer; with or without
them it reads the same. Boxes and points. (The older GLM-4V-9B was not trained on boxes.)

Source: GLM-4.5V's README, and issues 114 and 118 of its repository.
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._bracketed import BracketNotation

GLM4V = BracketNotation(name="glm4v", coordinates=Coordinates(scale=1000), corners=(1, 2), opens="[[", comma=",")
