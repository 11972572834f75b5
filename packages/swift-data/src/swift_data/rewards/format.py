"""Format: are thinking and answer in their tags, `<think>...</think><answer>...</answer>`, and nothing outside?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..reward import Column, Reward, RewardExample


@dataclass(frozen=True, kw_only=True)
class Format(Reward):
    """1.0 where a completion is `<think>...</think><answer>...</answer>`, else 0.0.

    Each tag stands once, only white space stands outside of them, and the answer says something. Thinking may be empty.
    """

    think_in_prompt: bool = False
    """The prompt ends with `<think>`, so that the completion begins inside of it."""

    examples = (
        RewardExample(completion="<think>2 + 2</think>\n<answer>4</answer>", columns={}, reward=1.0),
        RewardExample(completion="<think>2 + 2</think>4", columns={}, reward=0.0),
        RewardExample(completion="<think>a</think><answer>4</answer>, I say", columns={}, reward=0.0),
        RewardExample(completion="<think>a</think><answer> </answer>", columns={}, reward=0.0),
    )

    def score(self, completions: Sequence[str], columns: Mapping[str, Column]) -> list[float]:
        """Look at each completion's tags."""
        opening = "<think>" if self.think_in_prompt else ""
        return [float(_is_well_formed(opening + completion)) for completion in completions]


def _is_well_formed(completion: str) -> bool:
    text = completion.strip()
    if any(text.count(tag) != 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")):
        return False
    thinking, _, rest = text.partition("</think>")
    rest = rest.lstrip()
    answer = rest.removeprefix("<answer>").removesuffix("</answer>")
    # Each tag is there once, so that what begins and ends with them holds no other.
    return (
        thinking.startswith("<think>")
        and rest.startswith("<answer>")
        and rest.endswith("</answer>")
        and bool(answer.strip())
    )
