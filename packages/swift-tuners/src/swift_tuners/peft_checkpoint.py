"""The files of an adapter in PEFT's format: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

from peft import PeftConfig
from torch import nn

from .checkpoint import PEFT_CONFIG_FILE
from .errors import InvalidCheckpoint, MissingDependency

PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
# PEFT saves with its own model around the host, which stands in the names of all tensors.
KEY_PREFIX = "base_model.model."


def read_peft_config(folder: Path) -> PeftConfig:
    """Read the adapter_config.json of a PEFT checkpoint, without asking a hub.

    Raises:
        InvalidCheckpoint: the file is missing, damaged, or of a type that the installed PEFT does not know.
        MissingDependency: the method needs a package that is not installed.
    """
    path = folder / PEFT_CONFIG_FILE
    if not path.is_file():
        raise InvalidCheckpoint(f"{str(path)!r} does not exist; expected the folder of a PEFT adapter")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no JSON: {error}; the checkpoint is damaged") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("peft_type"), str):
        raise InvalidCheckpoint(f"{str(path)!r} names no peft_type; expected a config that PEFT wrote")
    try:
        return PeftConfig.from_pretrained(str(folder))
    except ImportError as error:
        raise MissingDependency(f"the adapter in {str(folder)!r} needs another package: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidCheckpoint(f"{str(path)!r} is no config that this version of PEFT reads: {error!r}") from error


def write_peft_config(config: PeftConfig, model: nn.Module, folder: Path) -> None:
    """Write an adapter_config.json that names its base model; the same config makes the same bytes.

    Args:
        config: left as it is.
        model: the host.
        folder: where to.
    """
    config = copy.deepcopy(config)
    config.base_model_name_or_path = name_of(model) or config.base_model_name_or_path
    config.inference_mode = True
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, set):
            # PEFT writes sets in an order that changes from process to process.
            setattr(config, field.name, sorted(value))
    host = type(model)
    mapping = {"base_model_class": host.__name__, "parent_library": host.__module__}
    config.save_pretrained(str(folder), auto_mapping_dict=mapping if config.task_type is None else None)


def name_of(model: nn.Module) -> str | None:
    """Return the id or folder that a transformers model was loaded from."""
    name = getattr(model, "name_or_path", None)
    return name if isinstance(name, str) and name else None
