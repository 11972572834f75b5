r"""Thinking that holds nothing is not trained: a model that shall think must not learn to skip it.

<think>\n\n</think>\n\nThe answer is 42.
------- 0 -----------
"""

from __future__ import annotations

from ..loss_scale import Keywords

IGNORE_EMPTY_THINK = Keywords(patterns={r"<think>\s*</think>\s*": 0.0})
