"""swift.json, the contract at rest: what a checkpoint stands on, and which tuners it holds.

It is written last, so its presence says that the checkpoint is whole. Readers refuse what they do not know; whoever
adds a field raises FORMAT_VERSION.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import cast

from .args import ANSWERING_OPTIONS
from .errors import InvalidCheckpoint
from .tuner import JSON

FILE_NAME = "swift.json"
FORMAT_VERSION = 2
DEFAULT_TUNER = "default"
PEFT_CONFIG_FILE = "adapter_config.json"
"""The config of an adapter in PEFT's format; a folder that holds one is an adapter."""
_RECORDED_PACKAGES = ("swift-tuners", "swift-templates", "swift-train", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class TunerEntry:
    """One tuner in a checkpoint."""

    name: str
    kind: str
    folder: str
    """Its folder inside the checkpoint; '.' is the checkpoint itself, as PEFT keeps its default adapter."""


@dataclass(kw_only=True)
class SwiftConfig:
    """The contents of swift.json."""

    base_model: str | None = None
    """Hub id, embedded name, or path of the model that the tuners stand on; None for a model without a name."""
    base_revision: str | None = None
    """Exact revision of a hub id."""
    base_use_hf: bool = False
    """Whether a hub id is one of Hugging Face's; else of ModelScope's."""
    base_folder: str | None = None
    """Where the base model lay on the machine that wrote this."""
    base_options: dict[str, JSON] = field(default_factory=dict)
    """How the base was loaded, where that changes what it answers: fields of ModelArgs and QuantizationArgs that were
    not at their defaults."""
    template: str | None = None
    """Template family; None is the model's own chat template."""
    system: str | None = None
    """System prompt that rows without one were trained with: the text itself, never a path."""
    response_prefix: str = ""
    """What every answer began with in training."""
    enable_thinking: bool | None = None
    """Whether prompts asked for thinking; None is the template's own choice."""
    tuners: list[TunerEntry] = field(default_factory=list)
    """In the order in which they are attached; empty in a whole model."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that wrote this."""
    format_version: int = FORMAT_VERSION

    @classmethod
    def read(cls, folder: str | Path) -> SwiftConfig:
        """Read the swift.json in a folder.

        Raises:
            InvalidCheckpoint: it is missing, damaged, or written by a newer version.
        """
        path = Path(folder) / FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidCheckpoint(f"{str(path)!r} does not exist; expected a checkpoint that swift wrote") from error
        except ValueError as error:
            raise InvalidCheckpoint(
                f"{str(path)!r} is no JSON: {error}; the checkpoint is damaged, take another"
            ) from error
        return cls._check(content, path)

    def write(self, folder: str | Path) -> None:
        """Write swift.json into a folder; it appears only when it is whole."""
        path = Path(folder) / FILE_NAME
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)

    @classmethod
    def _check(cls, content: object, path: Path) -> SwiftConfig:
        if not isinstance(content, dict):
            raise InvalidCheckpoint(f"{str(path)!r} holds {content!r:.80}; expected a JSON object")
        version = content.get("format_version")
        if not isinstance(version, int) or version > FORMAT_VERSION or version < 1:
            raise InvalidCheckpoint(
                f"{str(path)!r} has format_version {version!r}; expected 1 to {FORMAT_VERSION}; "
                "a newer version of swift-tuners may read it"
            )
        unknown = sorted(set(content) - {each.name for each in fields(cls)})
        if unknown:
            raise InvalidCheckpoint(f"{str(path)!r} holds {unknown[0]!r}, which is no field of swift.json")
        for name in ("base_model", "base_revision", "base_folder", "template", "system"):
            if not isinstance(content.get(name), str | None):
                raise InvalidCheckpoint(f"{name} in {str(path)!r} is {content[name]!r}; expected a text or null")
        if not isinstance(content.get("response_prefix", ""), str):
            raise InvalidCheckpoint(
                f"response_prefix in {str(path)!r} is {content['response_prefix']!r}; expected a text"
            )
        if not isinstance(content.get("base_use_hf", False), bool):
            raise InvalidCheckpoint(
                f"base_use_hf in {str(path)!r} is {content['base_use_hf']!r}; expected true or false"
            )
        if not isinstance(content.get("enable_thinking"), bool | None):
            raise InvalidCheckpoint(
                f"enable_thinking in {str(path)!r} is {content['enable_thinking']!r}; expected true, false or null"
            )
        options = content.get("base_options", {})
        if not isinstance(options, dict) or not set(options) <= ANSWERING_OPTIONS:
            raise InvalidCheckpoint(
                f"base_options in {str(path)!r} is {options!r:.120}; expected an object with some of "
                f"{', '.join(sorted(ANSWERING_OPTIONS))}"
            )
        packages = content.get("packages", {})
        if not isinstance(packages, dict) or not all(isinstance(each, str) for each in packages.values()):
            raise InvalidCheckpoint(f"packages in {str(path)!r} is {packages!r:.80}; expected names and versions")
        tuners = content.get("tuners", [])
        if not isinstance(tuners, list):
            raise InvalidCheckpoint(f"tuners in {str(path)!r} is {tuners!r:.80}; expected a list")
        entries = [_check_entry(each, path) for each in tuners]
        if len({each.name for each in entries}) < len(entries):
            raise InvalidCheckpoint(f"tuners in {str(path)!r} holds a name twice: {[each.name for each in entries]}")
        return cls(**{**content, "tuners": entries})


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that a checkpoint depends on."""
    versions = {}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Run from source, not installed.
            continue
    return versions


def _check_entry(entry: object, path: Path) -> TunerEntry:
    wanted = {each.name for each in fields(TunerEntry)}
    if not isinstance(entry, dict) or set(entry) != wanted or not all(isinstance(each, str) for each in entry.values()):
        raise InvalidCheckpoint(
            f"tuners in {str(path)!r} holds {entry!r:.120}; expected name, kind and folder, each a text"
        )
    folder = PurePosixPath(entry["folder"])
    if folder.is_absolute() or ".." in folder.parts or "\\" in entry["folder"]:
        raise InvalidCheckpoint(
            f"tuner {entry['name']!r} in {str(path)!r} has folder {str(folder)!r}, which leads out of the checkpoint"
        )
    return TunerEntry(**cast("dict[str, str]", entry))
