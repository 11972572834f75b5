"""ReACT format: does the completion think, and then call one tool or give the final answer?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..reward import Column, Reward, RewardExample
from ._react import read_object

_MARKERS = re.compile(r"^[ \t]*(Thought|Action|Action Input|Observation|Final Answer):", re.MULTILINE)
_CALL = ("Action", "Action Input")
_ANSWER = ("Final Answer",)


class ReactFormat(Reward):
    """1.0 where a completion is a well-formed step of ReACT, else 0.0.

    It begins with a thought, 'Thought: ...' or `<think>...</think>`. Then follows either 'Action: name' on a line and
    'Action Input: ' with a JSON object, and nothing but 'Observation:', where servers stop; or 'Final Answer: ...'.
    """

    examples = (
        RewardExample(
            completion='Thought: I need it.\nAction: get_weather\nAction Input: {"city": "Paris"}\nObservation:',
            columns={},
            reward=1.0,
        ),
        RewardExample(completion="<think>Easy.</think>\nFinal Answer: 4", columns={}, reward=1.0),
        RewardExample(completion="Thought: hm.\nAction: get_weather\nAction Input: Paris", columns={}, reward=0.0),
        RewardExample(completion="Action: get_weather\nAction Input: {}", columns={}, reward=0.0),
        RewardExample(completion="Thought: hm.\nAction: f\nAction Input: {}\nObservation: 3", columns={}, reward=0.0),
    )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Look at each completion's lines."""
        return [float(_is_well_formed(completion)) for completion in completions]


def _is_well_formed(completion: str) -> bool:
    text = completion.strip()
    thought = False
    if text.startswith("<think>"):
        # What is thought may look like anything.
        _, closed, text = text.partition("</think>")
        thought, text = bool(closed), text.lstrip()
    if "<think>" in text or "</think>" in text:
        return False
    # Before the first marker, between them, and after the last: ["", "Thought", " hm.\n", "Action", ...].
    before, *parts = _MARKERS.split(text)
    names, texts = tuple(parts[::2]), [part.strip() for part in parts[1::2]]
    if before.strip():
        return False
    if names[:1] == ("Thought",):
        thought = bool(texts[0])
        names, texts = names[1:], texts[1:]
    if names[2:] == ("Observation",) and not texts[2]:
        names, texts = names[:2], texts[:2]
    if names == _CALL:
        action, given = texts
        return thought and bool(action) and "\n" not in action and not isinstance(read_object(given), str)
    return names == _ANSWER and thought and bool(texts[0])
