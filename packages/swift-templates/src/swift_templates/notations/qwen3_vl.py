"""Qwen3-VL: JSON with thousandths.

    ```json
    [
        {"bbox_2d": [341, 258, 397, 360], "label": "dog"},
        {"point_2d": [394, 105], "label": "a corner"}
    ]
    ```

Each object stands after a tab. Each number is round(pixels / side * 1000), 0 to 1000, whatever size the picture is
resized to.

Source: Qwen3-VL's README and its cookbook "2d grounding".
"""

from __future__ import annotations

from ..grounding_notation import Coordinates
from ._json_objects import JsonNotation

QWEN3_VL = JsonNotation(name="qwen3_vl", coordinates=Coordinates(scale=1000), corners=(1, 2))
