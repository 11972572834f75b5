"""From a model's name to a torch module, ready to be tuned or asked."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..args import ModelArgs
from ..errors import InvalidModel
from .quiet import quiet
from .resolve import ResolvedModel, resolve_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, and where it came from."""

    model: PreTrainedModel
    folder: Path
    """Its config, weights and tokenizer on this machine."""
    name: str
    """What finds it again: hub id, embedded name, or absolute path."""
    revision: str | None = None
    """Exact revision of a hub id."""
    use_hf: bool = False
    """Whether the name is an id of Hugging Face's."""


def load_model(args: ModelArgs, resolved: ResolvedModel | None = None) -> LoadedModel:
    """Load a causal language model, in evaluation mode, from safetensors only.

    Args:
        args: which model, and how it is loaded.
        resolved: what `resolve_model` returned for these arguments, so that it need not be found again.

    Raises:
        ModelNotFound, InvalidModel, MissingDependency: see `resolve_model`.
        InvalidModel: transformers does not know the architecture, or the weights are damaged, incomplete or do not fit
            the config.
    """
    found = resolved or resolve_model(args)
    try:
        model, missing, surplus = _load_from(found.folder, args)
    except (ValueError, OSError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise InvalidModel(f"model {found.name!r} in {str(found.folder)!r} cannot be loaded: {error}") from error
    if missing:
        # transformers would go on with random numbers in their place.
        raise InvalidModel(
            f"model {found.name!r} in {str(found.folder)!r} lacks {len(missing)} weights that a {type(model).__name__} "
            f"has, such as {missing[0]!r}; its files are incomplete or belong to another architecture"
        )
    if surplus:
        message = "%s: %d weights have no place in the model and are left out, such as %s"
        logger.warning(message, found.name, len(surplus), surplus[0])
    if found.use_hf:
        # So that adapters name their base by its id, not by a folder of this machine.
        model.name_or_path = model.config._name_or_path = found.name
    model.eval()
    return LoadedModel(model, found.folder, found.name, found.revision, found.use_hf)


def _load_from(folder: Path, args: ModelArgs) -> tuple[PreTrainedModel, list[str], list[str]]:
    """Return the model, the weights that the files lack, and those in the files that the model has no place for."""
    with quiet():
        loaded: object = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=choose_dtype(args.torch_dtype),
            attn_implementation=args.attn_impl,
            device_map=args.device_map or own_device(),
            trust_remote_code=args.trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    return model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])


def choose_dtype(wanted: Literal["auto", "float32", "bfloat16", "float16"]) -> torch.dtype:
    """Return the type of the weights; 'auto' is bfloat16 where the hardware computes in it natively, else float32."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # AMX multiplies bfloat16 matrices 4 to 6 times as fast as float32. AVX512-BF16 alone does not help: 0.6 times as
    # fast, measured with torch 2.13 on a two-core Xeon without AMX.
    # Older versions of torch cannot say.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("amx_bf16", False) else torch.float32


def own_device() -> str:
    """Return the device of this process: its GPU if there is one, else the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
