"""Whether a folder holds a whole model, said before anything heavy is imported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..errors import InvalidModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DOWNLOADED_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
"""What is fetched from a hub: no pickles, no copies of the weights in other formats."""


def check_model_folder(folder: Path) -> Path:
    """Return the folder if it holds a model's config and all its weights.

    Raises:
        InvalidModel: something is missing; the message says what, and what the folder seems to be.
    """
    missing = find_missing(folder)
    if missing is None:
        return folder
    if (folder / "adapter_config.json").exists():
        raise InvalidModel(
            f"{str(folder)!r} holds an adapter, no model; give its base as the model, and this folder as the checkpoint"
        )
    pickled = sorted(each.name for each in folder.glob("*.bin"))
    hint = f"; {pickled[0]!r} is a pickle, which can run code: convert it to safetensors" if pickled else ""
    raise InvalidModel(
        f"model folder {str(folder)!r} has no {missing}; expected config.json and safetensors weights{hint}"
    )


def find_missing(folder: Path) -> str | None:
    """Return the name of a file that a model's folder lacks, or None if it is whole."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if (folder / WEIGHTS_FILE).is_file():
        return None
    index = folder / INDEX_FILE
    if not index.is_file():
        return WEIGHTS_FILE
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidModel(f"{str(index)!r} is damaged: {error!r}; expected a JSON object with a weight_map") from error
    return next((shard for shard in sorted(shards) if not (folder / shard).is_file()), None)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy what stands beside a model's weights and makes its words: tokenizer, chat template, generation settings."""
    names = (
        "tokenizer*",
        "special_tokens_map.json",
        "vocab.*",
        "merges.txt",
        "added_tokens.json",
        "*.jinja",
        "generation_config.json",
    )
    for file in {file for name in names for file in source.glob(name) if file.is_file()}:
        if not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)
