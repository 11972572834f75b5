"""What a user may say about the template; light, so that a help text needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class PromptArgs:
    """How conversations become prompts."""

    template: str | None = None
    """A template family, such as chatml; by default the model's own chat template."""
    system: str | None = None
    """System prompt for rows that bring none: a text, or the path of a .txt file."""
    max_length: int | None = None
    """Most tokens in a sample; by default what the model was built for."""
    enable_thinking: bool | None = None
    """Ask templates that know it for thinking, or for none; by default the template decides."""
    response_prefix: str = ""
    """Text that every answer begins with; it is part of the prompt, and an answer to train on must begin with it."""


@dataclass(kw_only=True)
class TemplateArgs(PromptArgs):
    """How conversations become tokens."""

    truncation_strategy: Literal["delete", "left", "right", "raise"] = "delete"
    """What happens to a longer sample: left out and counted, cut on one side, or an error."""
    loss_scale: Literal["default", "last_round"] = "default"
    """Which answers are trained: all of them, or only each conversation's last."""
