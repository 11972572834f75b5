"""ToolBench: as ReACT, without a word that waits for the result.

    Thought: I should look it up.
    Action: search              <- content 3
    Action Input: {"q": "rain"} <- content 3

Source: SWIFT, arXiv 2408.05517, appendix B.
"""

from __future__ import annotations

from ..loss_scale import CONTENT, Keywords

TOOLBENCH = Keywords(
    keywords={
        "Thought:": (1.0, 1.0),
        "Action:": (1.0, CONTENT),
        "Action Input:": (1.0, CONTENT),
    }
)
