"""What a model thinks before it answers, kept apart from what it says.

On the wire both are one text: <think>, the reasoning, </think>, the answer.
"""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"


def join_reasoning(reasoning: str, content: str) -> str:
    """Write both as one text, for templates that know nothing of reasoning."""
    bare, answer = reasoning.strip("\n"), content.lstrip("\n")
    return f"{OPEN}\n{bare}\n{CLOSE}\n\n{answer}"


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Take one text apart again.

    Args:
        text: a whole answer, or the beginning of one.
        opened: the prompt ended inside the reasoning, so that no <think> is to be expected.

    Returns:
        The reasoning, None where there is none, and the content. Thinking that was cut off is all reasoning.
    """
    if text.lstrip().startswith(OPEN):
        inside = text.lstrip().removeprefix(OPEN)
    elif opened:
        inside = text
    else:
        return None, text
    thought, _, answer = inside.partition(CLOSE)
    # Just the lines that `join_reasoning` and the chat templates in use write around both; more belongs to the texts.
    thought = thought.removeprefix("\n").removesuffix("\n")
    return thought or None, answer.removeprefix("\n").removeprefix("\n")
