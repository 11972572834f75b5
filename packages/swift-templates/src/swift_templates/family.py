"""Template families: formats for models that have no chat template of their own.

A family is a chat template and its stop tokens, so whatever holds for a model's own template holds for a family. A
new one is one file in `families/`, or an entry point in the group `swift_templates.families`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .registry import Registry


@dataclass(frozen=True, kw_only=True)
class Family:
    """One format."""

    chat_template: str
    """Jinja text, with the variables of transformers' chat templates."""
    stop_tokens: tuple[str, ...]
    """Spellings of the tokens that end an answer; the tokenizer must have each as one token."""
    answer_pattern: str | None = None
    """A regular expression for a whole answer, control tokens spelled out, with groups `reasoning` and `content`; None
    where <think> alone parts them."""


families: Registry[Family] = Registry(kind="template family", package="swift_templates.families", base=Family)
