"""Agent-FLAN: answers to questions about a call, and the contents that make up a call, weigh three times.

The questions are those of its dialogues, in which a call is asked for piece by piece: the tool, the names of its
parameters, and the value of each.

Sources: Agent-FLAN, arXiv 2403.12881, section 3.1; SWIFT, arXiv 2408.05517, appendix B.
"""

from __future__ import annotations

from ..loss_scale import CONTENT, LABEL, Keywords

AGENTFLAN = Keywords(
    keywords={
        "Name:": (1.0, CONTENT),
        "Action:": (1.0, CONTENT),
        "ACTION:": (1.0, CONTENT),
        "Action Input:": (1.0, CONTENT),
        "ACTION_INPUT:": (1.0, CONTENT),
        "Tool:": (1.0, CONTENT),
        "Command:": (1.0, CONTENT),
        "Arguments:": (1.0, CONTENT),
        "Thought:": (1.0, 1.0),
        "Observation:": (LABEL, 0.0),
        "Final Answer:": (1.0, 1.0),
    },
    questions={
        "What is the tool you want to use": CONTENT,
        "What are the required parameter names": CONTENT,
        "What is the value of": CONTENT,
    },
)
