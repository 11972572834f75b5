"""From a folder that a user points at to what is loaded: the newest checkpoint of a run, its record, its base model.

Folders are of three kinds: a checkpoint of ours, with swift.json; an adapter of PEFT's, whose own file names the base;
a whole model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from .args import DEFAULT_MODEL, ModelArgs
from .checkpoint import DEFAULT_TUNER, FILE_NAME, SwiftConfig, TunerEntry
from .errors import InvalidCheckpoint
from .model import SwiftModel
from .swift import Swift, find_tuners

_PREFIX = "checkpoint-"
_PEFT_CONFIG_FILE = "adapter_config.json"


def find_checkpoint(folder: Path) -> Path:
    """Return the folder itself if it can be loaded, else the newest checkpoint of the run that it holds.

    Raises:
        InvalidCheckpoint: it is missing, or neither.
    """
    if not folder.is_dir():
        raise InvalidCheckpoint(f"checkpoint {str(folder)!r} is not a folder; check the path")
    if any((folder / name).is_file() for name in (FILE_NAME, _PEFT_CONFIG_FILE, "config.json")):
        return folder
    suffixes = [each.name.removeprefix(_PREFIX) for each in folder.glob(f"{_PREFIX}*")]
    steps = [int(each) for each in suffixes if each.isdigit()]
    for step in sorted(steps, reverse=True):
        if (folder / f"{_PREFIX}{step}" / FILE_NAME).is_file():
            return folder / f"{_PREFIX}{step}"
    raise InvalidCheckpoint(
        f"{str(folder)!r} is neither a checkpoint nor a run that holds one; "
        f"expected {FILE_NAME}, {_PEFT_CONFIG_FILE} or config.json in it"
    )


def read_record(folder: Path) -> SwiftConfig:
    """Return what a loadable folder says of itself; without a swift.json it is made up from what is there.

    Raises:
        InvalidCheckpoint: a file is damaged.
    """
    if (folder / FILE_NAME).is_file():
        return SwiftConfig.read(folder)
    path = folder / _PEFT_CONFIG_FILE
    if not path.is_file():
        return SwiftConfig(base_model=str(folder))
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        base, revision = fields.get("base_model_name_or_path"), fields.get("revision")
    except (ValueError, AttributeError) as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no JSON object: {error}") from error
    # An adapter of PEFT's is looked for where PEFT's users look.
    return SwiftConfig(
        base_model=base,
        base_revision=revision,
        base_use_hf=True,
        tuners=[TunerEntry(name=DEFAULT_TUNER, kind="peft", folder=".")],
    )


def choose_base(given: ModelArgs, record: SwiftConfig) -> ModelArgs:
    """Return how the base of a checkpoint is loaded.

    What the user named wins; then the folder where the base lay, if it still does; then its name.

    Raises:
        InvalidCheckpoint: neither is known.
    """
    if given.model != DEFAULT_MODEL or record.base_model == DEFAULT_MODEL:
        return given
    if record.base_folder is not None and Path(record.base_folder).is_dir():
        return replace(given, model=record.base_folder)
    if record.base_model is None:
        raise InvalidCheckpoint("the checkpoint does not say which model it stands on; name it with --model")
    return replace(
        given,
        model=record.base_model,
        model_revision=given.model_revision or record.base_revision,
        use_hf=given.use_hf or record.base_use_hf,
    )


def attach_adapters(model: nn.Module, folders: Mapping[str, Path]) -> tuple[SwiftModel, dict[str, list[str]]]:
    """Attach several checkpoints to one model, switched off; they answer once they are active, and do not train.

    Args:
        model: the base.
        folders: checkpoints by the names that they get here, in order of attachment.

    Returns:
        The model, and the names of the tuners that each checkpoint brought.

    Raises:
        As `Swift.from_pretrained`.
    """
    names: dict[str, list[str]] = {}
    tuned = model
    for name, folder in folders.items():
        found = [entry.name for entry in find_tuners(folder)]
        chosen = {each: name if len(found) == 1 else f"{name}-{each}" for each in found}
        tuned = Swift.from_pretrained(tuned, folder, chosen)
        # Two that exclude each other may be loaded together, as long as they are not active together.
        tuned.deactivate()
        names[name] = list(chosen.values())
    if not isinstance(tuned, SwiftModel):
        tuned = SwiftModel(model)
    return tuned, names
