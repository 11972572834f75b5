"""Processors that stand in for code in a model's folder: told by its config.json, set by its small files.

One file each in `media/processors/`, named as the family of its model, written from what the model's authors publish.
Nothing in the folder is run, and neither torch nor transformers is needed. What the folder does not say, and a
processor needs, leaves the folder to `own_code`, which refuses media and says why.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InvalidModelFolder, TemplateMismatch
from ..messages import JSON
from ..model_folder import read_json_object, read_model_folder
from ..registry import Registry
from .processor import DecodedMedia, MediaProcessor

_FILES = ("processor_config.json", "preprocessor_config.json")
# Only these are looked up without the tokenizer itself, which is large.
_ADDED = "added_tokens_decoder"
_NAMES_A_MODEL = ("model_type", "architectures", "auto_map")


@dataclass(frozen=True, kw_only=True)
class ProcessorFolder:
    """What the small files of a model's folder say about its media."""

    path: Path
    config: Mapping[str, JSON]
    """config.json."""
    settings: Mapping[str, JSON]
    """preprocessor_config.json, and what processor_config.json has besides."""
    named_tokens: Mapping[str, str]
    """Texts of special tokens by name, such as bos_token."""

    @classmethod
    def read(cls, path: Path) -> ProcessorFolder:
        """Read a folder; every file of it is optional.

        Raises:
            InvalidModelFolder: a file is not a JSON object.
        """
        settings: dict[str, JSON] = {}
        for name in _FILES:
            settings |= read_json_object(path / name)
        return cls(
            path=path,
            config=read_json_object(path / "config.json"),
            settings=settings,
            named_tokens=read_model_folder(path).named_tokens,
        )

    @property
    def model_type(self) -> str:
        """What config.json calls the model; empty where it says nothing."""
        return str(self.config.get("model_type") or "")

    def part(self, name: str) -> Mapping[str, JSON]:
        """Return an object inside of config.json; empty where there is none."""
        value = self.config.get(name)
        return value if isinstance(value, dict) else {}

    def is_class(self, name: str) -> bool:
        """Whether config.json says that the model is of a class of this name."""
        architectures = self.config.get("architectures")
        own = self.part("auto_map").get("AutoModelForCausalLM")
        told = [*(architectures if isinstance(architectures, list) else []), own]
        return any(str(each).rpartition(".")[2] == name for each in told if each)

    def token_id(self, text: str) -> int:
        """Return the id of an added token.

        Raises:
            InvalidModelFolder: the tokenizer has none of this text.
        """
        added = read_json_object(self.path / "tokenizer_config.json").get(_ADDED)
        for token_id, token in (added if isinstance(added, dict) else {}).items():
            if isinstance(token, dict) and token.get("content") == text:
                return int(token_id)
        listed = read_json_object(self.path / "tokenizer.json").get("added_tokens")
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict) and each.get("content") == text and isinstance(each.get("id"), int):
                return int(str(each["id"]))
        raise InvalidModelFolder(
            f"the model writes {text!r} around its media, and its tokenizer in {str(self.path)!r} has no such token; "
            "complete the folder"
        )


class FolderProcessor(MediaProcessor):
    """Shows media as the code in a model's folder would.

    Args:
        folder: the model's.

    Attributes:
        fingerprint: changes with whatever in the folder decides about the arrays.

    Raises:
        InvalidModelFolder: a setting is not what its name says.
    """

    def __init__(self, folder: ProcessorFolder) -> None:
        facts = [dict(folder.config), dict(folder.settings), dict(folder.named_tokens)]
        told = json.dumps([type(self).__name__, *facts], sort_keys=True)
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    @classmethod
    @abstractmethod
    def knows(cls, folder: ProcessorFolder) -> bool:
        """Whether this is a folder of the model, and says all that is needed."""


processors: Registry[FolderProcessor] = Registry(
    kind="media processor", package="swift_templates.media.processors", base=FolderProcessor
)


def load_folder_processor(path: Path, template: str | None = None) -> FolderProcessor | None:
    """Return the processor for a folder whose model has code of its own, or None where none here knows it.

    Args:
        path: the folder.
        template: the family that the user names. It chooses where config.json is missing or names no model.

    Raises:
        InvalidModelFolder: a file is not a JSON object, or a setting not what its name says.
    """
    folder = ProcessorFolder.read(path)
    names = processors.names()
    for name in names:
        kind = processors.load_class(name)
        if kind.knows(folder):
            return kind(folder)
    chosen = (template or "").replace("-", "_").lower()
    if chosen in names and not folder.settings and not any(folder.config.get(name) for name in _NAMES_A_MODEL):
        return processors.load_class(chosen)(folder)
    return None


def pictures_in(media: Sequence[DecodedMedia], most: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """Return the pictures of a conversation without other media, each uint8 (H, W, 3).

    Raises:
        TemplateMismatch: another medium is among them, or there are more than the model takes.
    """
    pictures = [each.content for each in media if isinstance(each.content, np.ndarray) and each.kind == "image"]
    if len(pictures) != len(media):
        raise TemplateMismatch("the conversation has media that are no pictures; the model takes: image")
    if most is not None and len(pictures) > most:
        raise TemplateMismatch(f"the conversation has {len(pictures)} pictures; the model takes {most}")
    return pictures


def whole(source: Mapping[str, JSON], name: str, usual: int | None = None) -> int:
    """Return a setting that is a whole number above 0.

    Args:
        source: holds it.
        name: of the setting.
        usual: where it is not there.

    Raises:
        InvalidModelFolder: it is something else, or missing and needed.
    """
    value = source.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
        raise InvalidModelFolder(f"the model's setting {name!r} is {value!r}; expected a whole number above 0")
    return int(value)


def floats(source: Mapping[str, JSON], name: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Return a setting with a number for each of red, green and blue. Raises as `whole`."""
    value = source.get(name, list(usual))
    if not isinstance(value, list) or len(value) != len(usual):
        raise InvalidModelFolder(f"the model's setting {name!r} is {value!r:.80}; expected {len(usual)} numbers")
    numbers = [each for each in value if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(numbers) != len(usual):
        raise InvalidModelFolder(f"the model's setting {name!r} is {value!r:.80}; expected {len(usual)} numbers")
    return tuple(map(float, numbers))
