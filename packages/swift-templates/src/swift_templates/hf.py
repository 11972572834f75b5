"""Tokenizers that only transformers can read, and its processors of media; the one file here that imports transformers.

Many older models have a sentencepiece or tiktoken file and no tokenizer.json. transformers converts what it can to the
`tokenizers` library's form, and from there on it is not needed any more: `save_tokenizer` writes that form once.

A processor is asked for the media alone, each placeholder between two marks. So no text of a user's comes near it, and
the text between the marks is what stands for each medium.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from .args import PromptArgs
from .errors import ChatTemplateError, InvalidModelFolder, MissingDependency
from .family import families
from .jinja import compile_chat_template
from .media.folder_processor import load_folder_processor
from .media.hf_processors import (
    PARTS,
    check_sounds,
    frames_a_second,
    is_kind,
    part_for,
    question_for,
    read_sampling,
    settle_for,
    sizes_seen,
    texts_in,
    timing_of,
)
from .media.own_code import find_own_code
from .media.policy import MediaPolicy, need
from .media.processor import DecodedMedia, MediaProcessor, MissingProcessor, SeenMedia, TokenArray
from .media.streams import Video
from .media.token_arrays import BY_TOKEN, AnswerTypes, CrossAttention, Numbers
from .messages import MediaKind
from .model_folder import PROCESSOR_FILES, ModelFolder, has_processor, read_model_folder
from .template import Template
from .tokenizer import Tokenizer

try:
    import transformers
    from transformers import (
        AutoFeatureExtractor,
        AutoImageProcessor,
        AutoProcessor,
        AutoTokenizer,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )
    from transformers.video_utils import VideoMetadata
except ImportError as error:
    raise MissingDependency(
        "transformers is needed by swift_templates.hf; pip install 'swift-templates[hf]'"
    ) from error


logger = logging.getLogger(__name__)

_OPENERS: dict[MediaKind, tuple[str, ...]] = {"image": ("boi_token",), "video": (), "audio": ("boa_token",)}
_NAMED = ("boi_token", "boa_token", "image_token", "video_token", "audio_token")
_OF_TOKENIZER = ("input_ids", "attention_mask", "labels", "video_metadata")
# These take how many frames a second a video has as an argument, and from nowhere else.
_ONE_RATE = ("Qwen2_5OmniProcessor", "Qwen3OmniMoeProcessor")


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
    return Template.from_folder(
        path,
        args,
        new_special_tokens=new_special_tokens,
        model_length=model_length,
        media=_load_media(path, args),
        media_policy=media_policy,
    )


def _load_media(path: Path, args: PromptArgs | None) -> MediaProcessor | None:
    facts = read_model_folder(path)
    if own := load_folder_processor(path, None if args is None else args.template):
        return own
    if reason := find_own_code(path):
        return MissingProcessor(reason)
    if not has_processor(path):
        return None
    processor = _load_processor(path)
    if not any(part_for(processor, kind) for kind in PARTS):
        return None
    chat_templates: Mapping[str, str] = facts.chat_templates
    if args is not None and args.template is not None:
        family = families.load(args.template)
        chat_templates = {"default": (family() if isinstance(family, type) else family).chat_template}  # type: ignore[call-arg]  # a subclass fills in the fields itself
    return HfMedia(processor, chat_templates)


def _load_processor(path: Path) -> ProcessorMixin:
    found: ProcessorMixin | None
    try:
        try:
            found = AutoProcessor.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
        except (ImportError, ValueError) as error:
            found = _load_without_videos(path) if "torchvision" in str(error).lower() else None
            if found is None:
                raise
        return found
    except (ImportError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise InvalidModelFolder(f"transformers cannot load a processor from {str(path)!r}: {error}") from error


def _load_without_videos(path: Path) -> ProcessorMixin | None:
    """Load a processor whose class insists on one of videos, which needs torchvision, for all else that it takes."""
    config: dict[str, Any] = {}
    for name in reversed(PROCESSOR_FILES):
        config |= json.loads((path / name).read_text(encoding="utf-8")) if (path / name).is_file() else {}
    known: Any = getattr(transformers, str(config.get("processor_class")), None)
    if getattr(known, "is_dummy", known is None):
        return None
    wanted = inspect.signature(known.__init__).parameters
    if "video_processor" not in wanted or "image_processor" not in wanted:
        return None
    local = {"trust_remote_code": False, "local_files_only": True}
    images = AutoImageProcessor.from_pretrained(str(path), **local)
    # Some ask it for its patches, also where there is no video.
    videos = copy.copy(images)
    videos.stands_in = True
    given = {name: config[name] for name in wanted if name in config and not name.endswith(("processor", "extractor"))}
    given |= {"image_processor": images, "video_processor": videos}
    given["tokenizer"] = AutoTokenizer.from_pretrained(str(path), **local)
    if "feature_extractor" in wanted:
        given["feature_extractor"] = AutoFeatureExtractor.from_pretrained(str(path), **local)
    logger.warning("torchvision is not installed: %s takes no videos", known.__name__)
    made: ProcessorMixin = type(known.__name__, (known,), {"check_argument_for_proper_class": _take})(**given)
    return made


def _take(self: object, *_: object) -> None:
    """Take what stands for a video processor."""


class HfMedia(MediaProcessor):
    """A processor of transformers.

    Args:
        processor: what transformers loads beside a model that takes media.
        chat_templates: the model's; they show which placeholder stands for which kind.

    Attributes:
        fingerprint: changes with whatever decides about the arrays.

    Raises:
        InvalidModelFolder: a chat template is missing, or writes no placeholder that the processor knows.
    """

    def __init__(self, processor: ProcessorMixin, chat_templates: Mapping[str, str]) -> None:
        self._processor = processor
        self.placeholders = _find_placeholders(processor, chat_templates)
        self.sampling = read_sampling(processor)
        # It takes a picture apart only where it is the only one.
        self.is_joint = is_kind(processor, "LlavaOnevisionProcessor")
        told = [type(processor).__name__, processor.to_json_string(), str(self.placeholders), transformers.__version__]
        self.fingerprint = hashlib.sha256("\0".join(told).encode()).hexdigest()

    def see(self, media: Sequence[DecodedMedia]) -> SeenMedia:
        """Return the processor's arrays for one row with these media, and what stands for each in the text.

        Raises:
            TemplateMismatch: the processor puts in other texts than one for each medium.
            InvalidMedia: a sound is longer than the model hears.
        """
        check_sounds(self._processor, media)
        listening = copy.copy(self._processor)
        listening.tokenizer = tokenizer = _Listening(self._processor.tokenizer)
        text = question_for(self._processor, self.placeholders, [each.kind for each in media])
        written = listening(text=[text], **self._arguments(media))
        ids = np.asarray(written["input_ids"])[0].tolist()
        made = {name: np.asarray(value) for name, value in written.items() if name not in _OF_TOKENIZER}
        by_token = {name: self._by_token(name, ids, made.pop(name)) for name in BY_TOKEN if name in made}
        return SeenMedia(
            texts=texts_in(self._processor, tokenizer.heard, len(media)),
            arrays=made,
            resized=sizes_seen(self._processor, media, made),
            token_arrays=by_token,
            settle=settle_for(self._processor),
        )

    def _arguments(self, media: Sequence[DecodedMedia]) -> dict[str, Any]:
        # Video processors compute with torch, and some go on with what they made.
        given: dict[str, Any] = {"return_tensors": "np"}
        # Not as arrays: of one with 1 or 3 rows, a processor would have to guess which side is which.
        images = [need("PIL.Image", "image").fromarray(each.content) for each in media if each.kind == "image"]
        sounds = [each.content for each in media if each.kind == "audio"]
        videos = [each.content for each in media if isinstance(each.content, Video)]
        if images:
            given["images"] = [images] if self.is_joint else images
        if sounds:
            given |= {"audio": sounds, "sampling_rate": self.sampling.sample_rate}
        if videos:
            timings = [timing_of(each, self.sampling.fps) for each in videos]
            given |= {"videos": [each.frames for each in videos], "do_sample_frames": False, "return_tensors": "pt"}
            given["video_metadata"] = [VideoMetadata(**each) for each in timings]
            if any(is_kind(self._processor, name) for name in _ONE_RATE):
                given["fps"] = frames_a_second(media, timings)
        return given

    def _by_token(self, name: str, ids: list[int], array: npt.NDArray[np.generic]) -> TokenArray:
        if name == "cross_attention_mask":
            # Each picture's tiles, wherever it is seen.
            num_tiles = array[0].any(axis=0).sum(axis=-1).tolist()
            return CrossAttention(self._processor.image_token_ids[0] or 0, tuple(num_tiles), array.shape[3])
        if name == "token_type_ids" and is_kind(self._processor, "PaliGemmaProcessor"):
            return AnswerTypes()
        return Numbers.read(ids, array[0].tolist())


class _Listening:
    """A tokenizer that keeps the text which it is given: what a processor makes of one with placeholders."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.heard = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)

    def __call__(self, text: list[str], **options: object) -> object:
        """Tokenize."""
        self.heard = text[0]
        return self._tokenizer(text, **options)


def _find_placeholders(processor: ProcessorMixin, chat_templates: Mapping[str, str]) -> dict[MediaKind, str]:
    if "default" not in chat_templates:
        raise InvalidModelFolder(
            "the model takes media and has no chat template, which would show where they stand; name a template family"
        )
    template = compile_chat_template(chat_templates["default"])
    named = {name: text for name, text in vars(processor).items() if isinstance(text, str) and text}
    tokenizer = processor.tokenizer
    named |= {name: text for name in _NAMED if isinstance(text := getattr(tokenizer, name, None), str)}
    found: dict[MediaKind, str] = {}
    for kind in PARTS:
        if part_for(processor, kind) is None:
            continue
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
