"""From a folder that a user points at to what is loaded: the newest checkpoint of a run, its record, its base model.

Folders are of three kinds: a checkpoint of ours, with swift.json; an adapter of PEFT's, whose own file names the base;
a whole model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from torch import nn

from .args import ModelArgs
from .checkpoint import DEFAULT_TUNER, FILE_NAME, PEFT_CONFIG_FILE, SwiftConfig, TunerEntry, package_versions
from .errors import InvalidCheckpoint, UntrustedModel
from .model import SwiftModel
from .models.resolve import is_hub_id
from .option_types import fits
from .quantizer_args import QuantizationArgs
from .swift import Swift, find_tuners

if TYPE_CHECKING:
    from .models.load import LoadedModel

OptionsT = TypeVar("OptionsT", ModelArgs, QuantizationArgs)

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


def find_checkpoint(folder: Path) -> Path:
    """Return the folder itself if it can be loaded, else the newest checkpoint of the run that it holds.

    Raises:
        InvalidCheckpoint: it is missing, or neither.
    """
    if not folder.is_dir():
        raise InvalidCheckpoint(f"checkpoint {str(folder)!r} is not a folder; check the path")
    if any((folder / name).is_file() for name in (FILE_NAME, PEFT_CONFIG_FILE, "config.json")):
        return folder
    matches = [match for each in folder.iterdir() if (match := _CHECKPOINT.fullmatch(each.name))]
    for match in sorted(matches, key=lambda match: int(match[1]), reverse=True):
        if (folder / match[0] / FILE_NAME).is_file():
            return folder / match[0]
    raise InvalidCheckpoint(
        f"{str(folder)!r} is neither a checkpoint nor a run that holds one; "
        f"expected {FILE_NAME}, {PEFT_CONFIG_FILE} or config.json in it"
    )


def read_record(folder: Path) -> SwiftConfig:
    """Return what a loadable folder says of itself; without a swift.json it is made up from what is there.

    Raises:
        InvalidCheckpoint: a file is damaged.
    """
    if (folder / FILE_NAME).is_file():
        return SwiftConfig.read(folder)
    path = folder / PEFT_CONFIG_FILE
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
    """Return how the base of a checkpoint is found.

    A model that the user named wins, whatever it is; then the folder where the base lay, if it still does; then its
    name. `describe_base` gives the base its recorded name back. Options that change what the base answers, such as
    rope_scaling, are the recorded ones where the user left them at their defaults.

    Raises:
        InvalidCheckpoint: neither is known.
        UntrustedModel: the checkpoint would choose whose code runs.
    """
    given = fill_options(given, record)
    if given.model is not None:
        return given
    base = record.base_model or record.base_folder
    if base is None:
        raise InvalidCheckpoint("the checkpoint does not say which model it stands on; name it with --model")
    if given.trust_remote_code:
        raise UntrustedModel(
            f"--trust_remote_code would run the code of {base!r}, which the checkpoint names; "
            "if you trust that model, name it with --model"
        )
    moved = record.base_folder is None or not Path(record.base_folder).is_dir()
    if not moved and given.model_revision in (None, record.base_revision):
        return replace(given, model=record.base_folder, model_revision=None, use_hf=False)
    if not is_hub_id(base):
        return replace(given, model=base)
    return replace(
        given,
        model=base,
        model_revision=given.model_revision or record.base_revision,
        use_hf=given.use_hf or record.base_use_hf,
    )


def fill_options(given: OptionsT, record: SwiftConfig) -> OptionsT:
    """Return ModelArgs or QuantizationArgs in which recorded options stand for those left at their defaults.

    Raises:
        InvalidCheckpoint: a recorded value is of another type than the option.
    """
    usual = type(given)()
    left_open = {each.name for each in fields(given) if getattr(given, each.name) == getattr(usual, each.name)}
    recorded: dict[str, Any] = {name: record.base_options[name] for name in left_open & set(record.base_options)}
    for name, value in recorded.items():
        hint = get_type_hints(type(given))[name]
        if not fits(value, hint):
            raise InvalidCheckpoint(f"base_options of the checkpoint has {name} {value!r:.80}; expected {hint}")
    return replace(given, **recorded)


def without_written(given: ModelArgs) -> ModelArgs:
    """Return how a model is loaded again that was saved as a whole: its config and tokenizer hold some options now."""
    return replace(given, rope_scaling=None, max_model_len=None, new_special_tokens=[])


def describe_base(loaded: LoadedModel, record: SwiftConfig | None = None) -> SwiftConfig:
    """Return a new swift.json that says which model was loaded, without tuners and template.

    A base that was found in its recorded folder keeps its recorded name and revision: they find it on other machines.

    Args:
        loaded: the model.
        record: of the checkpoint whose base it may be, if there is one.
    """
    config = SwiftConfig(
        base_model=loaded.name,
        base_revision=loaded.revision,
        base_use_hf=loaded.use_hf,
        base_folder=str(loaded.folder),
        base_options=dict(loaded.options),
        packages=package_versions(),
    )
    if record is None or record.base_model is None or record.base_folder is None:
        return config
    if Path(record.base_folder).resolve() != loaded.folder.resolve():
        return config
    return replace(
        config,
        base_model=record.base_model,
        base_revision=record.base_revision,
        base_use_hf=record.base_use_hf,
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
