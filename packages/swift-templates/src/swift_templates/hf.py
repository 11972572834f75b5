"""Tokenizers that only transformers can read, and its processors of media; the one file here that imports transformers.

Many older models have a sentencepiece or tiktoken file and no tokenizer.json. transformers converts what it can to the
`tokenizers` library's form, and from there on it is not needed any more: `save_tokenizer` writes that form once.

A processor is asked for the media alone, each placeholder between two marks. So no text of a user's comes near it, and
the text between the marks is what stands for each medium.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from .args import PromptArgs
from .errors import ChatTemplateError, InvalidModelFolder, MissingDependency, TemplateMismatch
from .jinja import compile_chat_template
from .media.policy import MediaPolicy
from .media.processor import DecodedMedia, MediaProcessor, SeenMedia
from .messages import MediaKind
from .model_folder import ModelFolder, read_model_folder
from .template import Template
from .tokenizer import Tokenizer

try:
    from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
except ImportError as error:
    raise MissingDependency(
        "transformers is needed by swift_templates.hf; pip install 'swift-templates[hf]'"
    ) from error


# Stands in no chat template and in no medium's text.
_MARK = "\N{ASTERISM}"
_ARGUMENTS: dict[MediaKind, str] = {"image": "images", "video": "videos", "audio": "audio"}
_PARTS = ("image_processor", "video_processor", "feature_extractor", "audio_processor")
_OPENERS: dict[MediaKind, tuple[str, ...]] = {"image": ("boi_token",), "video": (), "audio": ("boa_token",)}
_NAMED = ("boi_token", "boa_token", "image_token", "video_token", "audio_token")
_OF_TOKENIZER = ("input_ids", "attention_mask", "labels")
_CROSS_ATTENTION = "cross_attention_mask"


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


def load_template(
    folder: str | Path,
    args: PromptArgs | None = None,
    *,
    new_special_tokens: Sequence[str] = (),
    model_length: int | None = None,
    media_policy: MediaPolicy | None = None,
) -> Template:
    """Read a model folder as `Template.from_folder` does, with the processor of media that it holds, if it holds one.

    Args:
        folder: the model's.
        args: what the user said.
        new_special_tokens: control tokens that the tokenizer gets besides its own.
        model_length: tokens that the model takes, where that is not what the folder says.
        media_policy: where media may come from, and how large they may be.

    Raises:
        InvalidModelFolder: transformers cannot load the processor.
        SwiftTemplatesError: see `Template.from_folder`.
    """
    path = Path(folder).expanduser()
    names = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
    media = None
    if any((path / name).is_file() for name in names):
        try:
            processor = AutoProcessor.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
        except (ImportError, OSError, ValueError, RuntimeError, AttributeError) as error:
            raise InvalidModelFolder(f"transformers cannot load a processor from {str(path)!r}: {error}") from error
        media = HfMedia(processor, read_model_folder(path).chat_templates) if _takes_media(processor) else None
    return Template.from_folder(
        path,
        args,
        new_special_tokens=new_special_tokens,
        model_length=model_length,
        media=media,
        media_policy=media_policy,
    )


class HfMedia(MediaProcessor):
    """A processor of transformers.

    Args:
        processor: what transformers loads beside a model that takes media.
        chat_templates: the model's; they show which placeholder stands for which kind.

    Raises:
        InvalidModelFolder: a chat template is missing, or writes no placeholder that the processor knows.
    """

    def __init__(self, processor: ProcessorMixin, chat_templates: Mapping[str, str]) -> None:
        self._processor = processor
        self.placeholders = _find_placeholders(processor, chat_templates)

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the processor's arrays for one row with these media, and what stands for each in the text."""
        text = _MARK + "".join(self.placeholders[each.kind] + _MARK for each in media)
        given: dict[str, Any] = {}
        for kind, name in _ARGUMENTS.items():
            found = [each.content for each in media if each.kind == kind]
            if found:
                given[name] = found
        written = self._processor(text=[text], return_tensors="np", **given)
        made = {name: np.asarray(value) for name, value in written.items() if name not in _OF_TOKENIZER}
        ids = np.asarray(written["input_ids"])[0]
        texts = self._processor.tokenizer.decode(ids.tolist(), skip_special_tokens=False).split(_MARK)[1:-1]
        if len(texts) != len(media):
            raise TemplateMismatch(f"the processor writes {len(texts)} texts for {len(media)} media")
        token_arrays = {name: value for name, value in made.items() if value.shape == (1, len(ids))}
        positional = [name for name, value in made.items() if value.ndim > 2 and value.shape[1] == len(ids) > 1]
        if _CROSS_ATTENTION in positional:
            raise TemplateMismatch(
                f"the model takes {_CROSS_ATTENTION}, which belongs to a whole text; such models are not supported yet"
            )
        return SeenMedia(
            # Some tokenizers put a space where a text goes on after a control token.
            texts=tuple(each.strip(" ") for each in texts),
            arrays={name: value for name, value in made.items() if name not in token_arrays},
            token_arrays={
                name: {int(token): int(number) for token, number in zip(ids, value[0], strict=True) if number}
                for name, value in token_arrays.items()
            },
        )


def _takes_media(processor: object) -> bool:
    return any(getattr(processor, name, None) is not None for name in _PARTS)


def _find_placeholders(processor: ProcessorMixin, chat_templates: Mapping[str, str]) -> dict[MediaKind, str]:
    if "default" not in chat_templates:
        raise InvalidModelFolder("the model takes media and has no chat template, which would show where they stand")
    template = compile_chat_template(chat_templates["default"])
    named = {name: text for name, text in vars(processor).items() if isinstance(text, str) and text}
    tokenizer = processor.tokenizer
    named |= {name: text for name in _NAMED if isinstance(text := getattr(tokenizer, name, None), str)}
    found: dict[MediaKind, str] = {}
    for kind in _ARGUMENTS:
        variables = {
            **tokenizer.special_tokens_map,
            "messages": [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": "x"}]}],
            "add_generation_prompt": False,
        }
        try:
            text = template.render(variables)
        except ChatTemplateError:
            continue
        # The one that the model's beginning-of-image token opens comes first, since the processor looks for that.
        known = [named[name] for name in (*_OPENERS[kind], f"{kind}_token") if name in named]
        placeholder = next((each for each in known if each in text), None)
        if placeholder is not None:
            found[kind] = placeholder
    if not found:
        raise InvalidModelFolder(
            "the chat template writes no placeholder for media that the processor knows; "
            f"it knows {', '.join(sorted(map(repr, named.values()))) or 'none'}"
        )
    return found


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
