"""ReACT: what is called, and with which arguments, weighs three times, the word that waits for the result twice.

    Thought: I should look it up.
    Action: search              <- content 3
    Action Input: {"q": "rain"} <- content 3
    Observation:                <- 2

Source: SWIFT, arXiv 2408.05517, appendix B.
"""

from __future__ import annotations

from ..loss_scale import CONTENT, LABEL, Keywords

REACT = Keywords(
    keywords={
        "Thought:": (1.0, 1.0),
        "Action:": (1.0, CONTENT),
        "Action Input:": (1.0, CONTENT),
        # What follows comes from the tool.
        "Observation:": (LABEL, 0.0),
        "Final Answer:": (1.0, 1.0),
    }
)
