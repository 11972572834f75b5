"""What the small files of a model folder say about its words: special tokens, chat templates, lengths.

Only JSON and Jinja text are read; nothing in the folder is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .errors import InvalidModelFolder
from .messages import JSON

_LENGTH_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len")
_LONGEST_BELIEVED = 10**9  # transformers writes 1e30 where it knows no length.


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """The facts of one folder."""

    path: Path
    named_tokens: dict[str, str]
    """Texts of the special tokens by name, such as eos_token."""
    added_tokens: dict[str, dict[str, JSON]]
    """Tokens that tokenizer_config.json adds, by text, with their properties."""
    chat_templates: dict[str, str]
    """Jinja texts by name; 'default' is the usual one."""
    eos_token_ids: frozenset[int]
    """Tokens that config.json and generation_config.json say end an answer."""
    max_length: int | None
    """Tokens that the model was built for."""
    model_type: str | None = None
    """What config.json calls the model."""


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files that describe a processor of media."""


def has_processor(path: Path) -> bool:
    """Whether a folder holds a processor of media, which `swift_templates.hf.load_template` reads."""
    return any((path / name).is_file() for name in PROCESSOR_FILES)


def read_model_folder(path: Path) -> ModelFolder:
    """Read what a folder holds; every file of it is optional.

    Raises:
        InvalidModelFolder: a file is there but is not what its name says.
    """
    config = read_json_object(path / "config.json")
    generation = read_json_object(path / "generation_config.json")
    tokenizer = read_json_object(path / "tokenizer_config.json")
    named = {**_named_tokens(read_json_object(path / "special_tokens_map.json")), **_named_tokens(tokenizer)}
    return ModelFolder(
        path=path,
        named_tokens=named,
        added_tokens=_added_tokens(tokenizer),
        chat_templates=_chat_templates(path, tokenizer),
        eos_token_ids=_eos_token_ids(config) | _eos_token_ids(generation),
        max_length=_max_length(config, tokenizer),
        model_type=str(config["model_type"]) if isinstance(config.get("model_type"), str) else None,
    )


def read_json_object(path: Path) -> dict[str, JSON]:
    """Read a small file of a model folder; one that is not there has nothing in it.

    Raises:
        InvalidModelFolder: the file is there but holds no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidModelFolder(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidModelFolder(f"{str(path)!r} holds a {type(value).__name__}; expected a JSON object")
    return value


def _named_tokens(source: dict[str, JSON]) -> dict[str, str]:
    named = {}
    for name, value in source.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            named[name] = text
    return named


def _added_tokens(tokenizer: dict[str, JSON]) -> dict[str, dict[str, JSON]]:
    added = tokenizer.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return {}
    by_id = sorted(added.items(), key=lambda item: int(item[0]))
    return {str(each["content"]): each for _, each in by_id if isinstance(each, dict) and "content" in each}


def _chat_templates(path: Path, tokenizer: dict[str, JSON]) -> dict[str, str]:
    """Find the templates where transformers writes them: files, or else the configuration."""
    files = {"default": path / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((path / "additional_chat_templates").glob("*.jinja"))}
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}
    if texts:
        return texts
    # Processors of media wrote their template into a file of its own before they wrote Jinja files.
    written = read_json_object(path / "chat_template.json").get("chat_template", tokenizer.get("chat_template"))
    if written is None:
        return {}
    if isinstance(written, str):
        return {"default": written}
    if isinstance(written, list):
        for each in written:
            if not isinstance(each, dict):
                break
            name, text = each.get("name"), each.get("template")
            if not (isinstance(name, str) and isinstance(text, str)):
                break
            texts[name] = text
        else:
            return texts
    raise InvalidModelFolder(
        f"{str(path / 'tokenizer_config.json')!r}: chat_template is neither a text nor a list of "
        f"named texts: {written!r:.80}"
    )


def _eos_token_ids(source: dict[str, JSON]) -> frozenset[int]:
    nested = source.get("text_config")
    value = source.get("eos_token_id")
    if value is None and isinstance(nested, dict):
        value = nested.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return frozenset(each for each in values if isinstance(each, int) and not isinstance(each, bool))


def _max_length(config: dict[str, JSON], tokenizer: dict[str, JSON]) -> int | None:
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}):
        for name in _LENGTH_NAMES:
            value = source.get(name)
            if isinstance(value, int) and value > 0:
                return value
    value = tokenizer.get("model_max_length")
    if isinstance(value, (int, float)) and 0 < value < _LONGEST_BELIEVED:
        return int(value)
    return None
