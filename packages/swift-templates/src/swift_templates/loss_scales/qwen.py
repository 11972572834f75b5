"""Qwen 1 and 2: what is called, and with which arguments, weighs twice.

✿FUNCTION✿: search         <- 2
✿ARGS✿: {"q": "rain"}      <- 2
✿RESULT✿:                  <- 1, what follows comes from the tool
"""

from __future__ import annotations

from ..loss_scale import LABEL, Keywords

QWEN = Keywords(
    keywords={
        "✿FUNCTION✿:": (LABEL, LABEL),
        "✿ARGS✿:": (LABEL, LABEL),
        "✿RESULT✿:": (1.0, 0.0),
        "✿RETURN✿:": (1.0, 1.0),
    }
)
