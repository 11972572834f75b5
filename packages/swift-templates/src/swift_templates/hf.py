"""Tokenizers that only transformers can read, made into ours; the one file here that imports transformers.

Many older models have a sentencepiece or tiktoken file and no tokenizer.json. transformers converts what it can to the
`tokenizers` library's form, and from there on it is not needed any more: `save_tokenizer` writes that form once.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers

from .args import PromptArgs
from .errors import InvalidModelFolder, MissingDependency
from .model_folder import ModelFolder, read_model_folder
from .template import Template
from .tokenizer import Tokenizer

try:
    from transformers import AutoTokenizer, PreTrainedTokenizerBase
except ImportError as error:
    raise MissingDependency(
        "transformers is needed by swift_templates.hf; pip install 'swift-templates[hf]'"
    ) from error


def template_from_pretrained(
    tokenizer: PreTrainedTokenizerBase | str | Path, args: PromptArgs | None = None
) -> Template:
    """Build a template with the help of transformers.

    Args:
        tokenizer: a tokenizer of transformers, or what its `from_pretrained` takes: a folder or a hub name. Stop
            tokens and the length are read from the folder where it is one.
        args: what the user said.

    Raises:
        InvalidModelFolder: transformers cannot load the tokenizer, or not into the form that is needed.
        ChatTemplateNotFound: it has no chat template and no family is named.
    """
    folder = Path(tokenizer).expanduser() if isinstance(tokenizer, (str, Path)) else Path(tokenizer.name_or_path)
    loaded = _load(tokenizer) if isinstance(tokenizer, (str, Path)) else tokenizer
    written = loaded.chat_template or {}
    facts = read_model_folder(folder) if folder.is_dir() else None
    stops = facts.eos_token_ids if facts is not None else frozenset()
    return Template.build(
        Tokenizer(_backend(loaded), named_tokens=_named_tokens(loaded, facts), control_ids=stops),
        chat_templates=written if isinstance(written, dict) else {"default": written},
        stop_token_ids=stops,
        model_length=facts.max_length if facts is not None else None,
        args=args,
        origin=f"tokenizer {loaded.name_or_path!r}",
    )


def save_tokenizer(source: str | Path, folder: str | Path) -> None:
    """Write a tokenizer into a folder in the form that `Template.from_folder` reads.

    Args:
        source: a folder or a hub name.
        folder: where tokenizer.json and its companions go; other files in it stay.

    Raises:
        InvalidModelFolder: transformers cannot load the tokenizer, or not into the form that is needed.
    """
    loaded = _load(source)
    _backend(loaded)
    loaded.save_pretrained(str(folder))


def _load(source: str | Path) -> PreTrainedTokenizerBase:
    path = Path(source).expanduser()
    try:
        return AutoTokenizer.from_pretrained(str(path if path.exists() else source), trust_remote_code=False)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise InvalidModelFolder(f"transformers cannot load a tokenizer from {str(source)!r}: {error}") from error


def _backend(loaded: PreTrainedTokenizerBase) -> tokenizers.Tokenizer:
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise InvalidModelFolder(
            f"{type(loaded).__name__} of {loaded.name_or_path!r} is written in Python and has no form that "
            "the tokenizers library can run; expected a tokenizer that transformers converts"
        )
    # A copy: padding and truncation of the caller's own tokenizer stay as they are.
    return tokenizers.Tokenizer.from_str(backend.to_str())


def _named_tokens(loaded: PreTrainedTokenizerBase, facts: ModelFolder | None) -> dict[str, str]:
    named = dict(facts.named_tokens) if facts is not None else {}
    return named | {name: str(text) for name, text in loaded.special_tokens_map.items() if isinstance(text, str)}
