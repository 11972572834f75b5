"""Qwen2.5-VL: JSON with pixels of the resized picture.

    ```json
    [
        {"bbox_2d": [341, 258, 397, 360], "label": "dog"},
        {"point_2d": [394, 105], "label": "a corner"}
    ]
    ```

Each object stands after a tab. Each number is round(pixels / side * resized side), 0 to the resized side. The resized
picture is the one that the processor makes, its sides multiples of 28 (grid_thw times the patch size), not the
picture of the file.

Source: Qwen2.5-VL, arXiv 2502.13923, section 2.1, and its cookbook "spatial understanding".
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._json_objects import JsonNotation

QWEN2_5_VL = JsonNotation(name="qwen2_5_vl", coordinates=Coordinates(scale="resized"), corners=(1, 2))
