"""Whether a folder holds a whole model, said before anything heavy is imported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..checkpoint import FILE_NAME, PEFT_CONFIG_FILE
from ..errors import InvalidModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX_FILE = "pytorch_model.bin.index.json"
DOWNLOADED_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.py")
"""What is fetched from a hub: no pickles, no copies of the weights in other formats."""
PICKLED_FILES = ("pytorch_model*.bin",)
"""What is fetched besides, if the user allows it and there is nothing else."""
_NOT_COMPANIONS = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.index.json"),
    *("config.json", FILE_NAME, "adapter_*", "tuner_config.json", "manifest.json", ".*"),
)
"""Weights and what describes them; files of checkpoints; hidden files, which hubs and git leave."""
_TEMPLATES_FOLDER = "additional_chat_templates"


def check_model_folder(folder: Path, *, allow_pickle: bool = False) -> Path:
    """Return the folder if it holds a model's config and all its weights.

    Args:
        folder: where the model is.
        allow_pickle: whether its weights may be pickles, where there are no others.

    Raises:
        InvalidModel: something is missing; the message says what, and what the folder seems to be.
    """
    missing = find_missing(folder, allow_pickle=allow_pickle)
    if missing is None:
        return folder
    if (folder / PEFT_CONFIG_FILE).exists():
        raise InvalidModel(
            f"{str(folder)!r} holds an adapter, no model; give its base as the model, and this folder as the checkpoint"
        )
    pickled = [] if allow_pickle else sorted(each.name for each in folder.glob("*.bin"))
    hint = ""
    if pickled:
        hint = (
            f"; {pickled[0]!r} is a pickle, which can run code: convert it to safetensors, or allow it with "
            "--use_safetensors false"
        )
    raise InvalidModel(
        f"model folder {str(folder)!r} has no {missing}; expected config.json and safetensors weights{hint}"
    )


def find_missing(folder: Path, *, allow_pickle: bool = False) -> str | None:
    """Return the name of a file that a model's folder lacks, or None if it is whole."""
    if not (folder / "config.json").is_file():
        return "config.json"
    missing = _find_missing_weights(folder, WEIGHTS_FILE, INDEX_FILE)
    if missing == WEIGHTS_FILE and allow_pickle:
        return _find_missing_weights(folder, PICKLE_FILE, PICKLE_INDEX_FILE)
    return missing


def has_safetensors(folder: Path) -> bool:
    """Say whether a model's folder holds weights that are no pickles."""
    return (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def _find_missing_weights(folder: Path, whole: str, index_name: str) -> str | None:
    if (folder / whole).is_file():
        return None
    index = folder / index_name
    if not index.is_file():
        return whole
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidModel(f"{str(index)!r} is damaged: {error!r}; expected a JSON object with a weight_map") from error
    return next((shard for shard in sorted(shards) if not (folder / shard).is_file()), None)


def copy_companions(source: Path, target: Path) -> None:
    """Copy what stands beside a model's weights and config: tokenizer, chat templates, processor, code, license, ...

    Everything is taken that is not known to be something else: tokenizers come in many files. What the target has
    already stays as it is.
    """
    files = [each for each in source.iterdir() if not any(each.match(pattern) for pattern in _NOT_COMPANIONS)]
    templates = list((source / _TEMPLATES_FOLDER).glob("*.jinja"))
    for file in [*files, *templates]:
        copy = target / file.relative_to(source)
        if file.is_file() and not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
