"""From the name that a user gives to a complete local folder; for a plain folder nothing heavy is imported.

A name is looked up in this order: a folder, a .gguf file, an embedded model, a hub id.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..args import DEFAULT_MODEL, ModelArgs
from ..errors import InvalidModel, MissingDependency, ModelNotFound
from .cache import folder_for, hash_file
from .embedded import find_embedded, is_embedded, suggest_embedded
from .folder import check_model_folder

logger = logging.getLogger(__name__)

# Raise it when `gguf` writes something else than before, so that folders of earlier versions are not taken for it.
UNPACKER = "1"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this machine."""

    folder: Path
    """Holds config.json, weights (safetensors, unless others were allowed) and, where there is one, the tokenizer."""
    name: str
    """What finds the model again: hub id, embedded name, or absolute path."""
    revision: str | None = None
    """Exact revision of a hub id."""
    use_hf: bool = False
    """Whether the name is an id of Hugging Face's."""


def resolve_model(args: ModelArgs) -> ResolvedModel:
    """Find a model, and unpack or download it where that is needed; both happen once.

    Raises:
        ModelNotFound: nothing of this name is there, or the hub cannot be reached.
        InvalidModel: the folder or file is incomplete or damaged.
        MissingDependency: an optional package is needed for it.
    """
    model = DEFAULT_MODEL if args.model is None else args.model
    if is_hub_id(model):
        return _resolve_hub_id(model, args)
    hub_options = {"--model_revision": args.model_revision is not None, "--use_hf": args.use_hf}
    without_effect = [option for option, is_given in hub_options.items() if is_given]
    if without_effect:
        logger.warning("%s: no effect on model %r, which is no hub id", " and ".join(without_effect), model)
    path = Path(model).expanduser()
    if path.is_dir():
        return ResolvedModel(_check(path.resolve(), args), str(path.resolve()))
    if path.is_file():
        return _resolve_file(path.resolve(), str(path.resolve()))
    if is_embedded(model):
        return _resolve_file(find_embedded(model), model.lower().replace("_", "-"))
    if path.suffix == ".gguf":
        raise ModelNotFound(f"model file {model!r} does not exist; check the path")
    hint = suggest_embedded(model)
    if hint:
        raise ModelNotFound(f"model {model!r} is no folder, no .gguf file and no embedded model; {hint}")
    raise ModelNotFound(
        f"model {model!r} is no folder, no .gguf file and no embedded model, and does not look like a hub id, "
        "which is OWNER/NAME; check the spelling"
    )


def is_hub_id(model: str) -> bool:
    """Say whether a hub is asked for this model: it looks like an id, and is nothing on this machine."""
    path = Path(model).expanduser()
    is_here = path.exists() or path.suffix == ".gguf" or is_embedded(model)
    return not is_here and _HUB_ID.fullmatch(model) is not None


def _resolve_file(path: Path, name: str) -> ResolvedModel:
    """Unpack a GGUF file into the cache, once for its contents."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise InvalidModel(
            f"model file {str(path)!r} begins with {magic!r}; expected a GGUF file, or give the model's folder"
        )
    return ResolvedModel(folder_for(f"{path.stem}-{hash_file(path, salt=UNPACKER)}", partial(_unpack, path)), name)


def _unpack(path: Path, folder: Path) -> None:
    try:
        from .gguf import convert_gguf
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{error.name} is needed to unpack a GGUF file; pip install 'swift-tuners[gguf]'"
        ) from error
    logger.info("unpacking %s, once; about 20 s for each 100 MB", path.name)
    convert_gguf(path, folder)


def _resolve_hub_id(model: str, args: ModelArgs) -> ResolvedModel:
    fetch: Callable[..., tuple[Path, str | None]]
    if args.use_hf:
        from .huggingface import fetch
    else:
        try:
            from .modelscope import fetch
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"{error.name} is needed to take {model!r} from ModelScope; "
                "pip install 'swift-tuners[modelscope]', or take it from Hugging Face with --use_hf true"
            ) from error
    folder, revision = fetch(model, args.model_revision, allow_pickle=not args.use_safetensors)
    return ResolvedModel(_check(folder, args), model, revision, args.use_hf)


def _check(folder: Path, args: ModelArgs) -> Path:
    return check_model_folder(folder, allow_pickle=not args.use_safetensors)
