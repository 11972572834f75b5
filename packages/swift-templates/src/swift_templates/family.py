"""Template families: formats for models that have no chat template of their own.

A family is a chat template and its stop tokens, so whatever holds for a model's own template holds for a family. A
new one is one file in `families/`, or an entry point in the group `swift_templates.families`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TemplateMismatch
from .registry import Registry
from .tokenizer import Tokenizer


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


def load_family(name: str, tokenizer: Tokenizer) -> Family:
    """Return the family of a name, for a tokenizer.

    Raises:
        UnknownName: no such family.
        TemplateMismatch: the tokenizer lacks a token that ends the family's answers.
    """
    loaded = families.load(name)
    # A subclass of Family fills in the fields itself.
    family = loaded() if isinstance(loaded, type) else loaded  # type: ignore[call-arg]  # see above
    for text in family.stop_tokens:
        if text not in tokenizer.special_ids:
            raise TemplateMismatch(
                f"template family {name!r} ends an answer with {text!r}, which is no special token of this tokenizer; "
                "choose another family, or add the token to the model"
            )
    return family
