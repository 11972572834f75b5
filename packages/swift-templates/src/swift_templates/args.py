"""What a user may say about the template; light, so that a help text needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(kw_only=True)
class PromptArgs:
    """How conversations become prompts."""

    template: str | None = None
    """A template family, such as chatml; by default the model's own chat template."""
    system: str | None = None
    """System prompt for rows that bring none: a text, or the path of a .txt file."""
    agent_template: str | None = None
    """Dialect of tools and calls, such as react_en or toolbench, in place of the chat template's own."""
    box_notation: str | None = None
    """How boxes are written, such as qwen2_5_vl or plain_thousandths; by default as the model's own type does."""
    max_length: int | None = None
    """Most tokens in a sample; by default what the model was built for."""
    enable_thinking: bool | None = None
    """Ask templates that know it for thinking, or for none; by default the template decides."""
    response_prefix: str = ""
    """Text that every answer begins with; it is part of the prompt, and an answer to train on must begin with it."""


@dataclass(kw_only=True)
class TemplateArgs(PromptArgs):
    """How conversations become tokens."""

    truncation_strategy: Literal["delete", "left", "right", "split", "raise"] = "delete"
    """What happens to a longer sample: left out and counted, cut on one side, split into several, or an error. No cut
    goes through a picture, or between a call and its result."""
    loss_scale: str = "default"
    """What is trained: default (each answer), last_round (a conversation's last) or all (prompts too, as in
    pre-training); joined by + with scales that weigh parts of answers: react, toolbench, hermes, qwen, agentflan,
    ignore_empty_think, a .json file, or module:Class."""

    @classmethod
    def complete(cls, args: PromptArgs | None) -> TemplateArgs:
        """Return options with the defaults of what matters in training only."""
        if isinstance(args, TemplateArgs):
            return args
        return cls(**({} if args is None else {each.name: getattr(args, each.name) for each in fields(args)}))
