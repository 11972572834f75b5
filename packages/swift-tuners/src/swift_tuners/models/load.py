"""From a model's name to a torch module, ready to be tuned or asked."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..args import ModelArgs, chosen_options
from ..errors import InvalidModel, MissingDependency, SwiftTunersError, UnsupportedConfig
from ..option_types import find_misfit
from ..quantizer import plan_loading
from ..quantizer_args import QuantizationArgs
from ..tuner import JSON
from .auto_class import choose_class, set_labels
from .folder import has_safetensors
from .new_tokens import add_tokens
from .patch import apply_patches
from .placement import check_placed, choose_device_map, read_max_memory
from .quiet import quiet
from .resolve import ResolvedModel, resolve_model
from .rope import scale_rope

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
    new_tokens: Mapping[str, int] = field(default_factory=dict)
    """Ids of `new_special_tokens` that the vocabulary had not; their rows of embedding and head should be trained."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Options that change what it answers and were not at their defaults, as a checkpoint records them."""
    new_modules: tuple[str, ...] = ()
    """Modules with random weights, since the files have none, to be trained and saved: a classifier's head."""


def load_model(
    args: ModelArgs, resolved: ResolvedModel | None = None, quantization: QuantizationArgs | None = None
) -> LoadedModel:
    """Load a language model, one that reads pictures, or a classifier, in evaluation mode.

    Weights come from safetensors only, unless `use_safetensors` is off.

    Args:
        args: which model, and how it is loaded.
        resolved: what `resolve_model` returned for these arguments, so that it need not be found again.
        quantization: how the weights are quantized on the way; a folder that is quantized already needs none.

    Raises:
        ModelNotFound, InvalidModel, MissingDependency: see `resolve_model`.
        InvalidModel: transformers does not know the architecture, or the weights are damaged, incomplete or do not fit
            the config.
        MissingDependency: the model or its attention needs a package that is not installed.
        UnsupportedConfig: an option does not fit this model or machine.
    """
    _check_types(args)
    found = resolved or resolve_model(args)
    place = f"model {found.name!r} in {str(found.folder)!r}"
    try:
        loaded = _load_from(found.folder, args, quantization)
    except SwiftTunersError:
        raise
    except ImportError as error:
        raise MissingDependency(f"{place} needs a package that is not installed, or not in full: {error}") from error
    except (ValueError, OSError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise InvalidModel(f"{place} cannot be loaded: {error}") from error
    model = loaded.model
    missing, new_modules = _split_missing(model, loaded.missing, args)
    if missing:
        # transformers would go on with random numbers in their place.
        raise InvalidModel(
            f"{place} lacks {len(missing)} weights that a {type(model).__name__} has, such as {missing[0]!r}; "
            "its files are incomplete or belong to another architecture"
        )
    if loaded.surplus:
        message = "%s: %d weights have no place in the model and are left out, such as %s"
        logger.warning(message, found.name, len(loaded.surplus), loaded.surplus[0])
    if new_modules:
        logger.warning("%s: %s is new, with random weights; train it", found.name, " and ".join(new_modules))
    if found.use_hf:
        # So that adapters name their base by its id, not by a folder of this machine.
        model.name_or_path = model.config._name_or_path = found.name
    new_tokens = add_tokens(model, found.folder, args.new_special_tokens) if args.new_special_tokens else {}
    apply_patches(model)
    model.eval()
    return LoadedModel(
        model,
        found.folder,
        found.name,
        found.revision,
        found.use_hf,
        new_tokens=new_tokens,
        new_modules=new_modules,
        options=chosen_options(args) | chosen_options(quantization or QuantizationArgs()),
    )


def _check_types(args: ModelArgs) -> None:
    """Raise UnsupportedConfig if an option holds what it does not take; where the model lies may be any path."""
    misfit = find_misfit(ModelArgs, {name: value for name, value in vars(args).items() if name != "model"})
    if misfit:
        raise UnsupportedConfig(misfit)


class _Loaded(NamedTuple):
    model: PreTrainedModel
    missing: list[str]
    """Weights that the files lack."""
    surplus: list[str]
    """Those in the files that the model has no place for."""


def _load_from(folder: Path, args: ModelArgs, quantization: QuantizationArgs | None) -> _Loaded:
    dtype = choose_dtype(args.torch_dtype)
    plan = plan_loading(folder, quantization, dtype=dtype)
    device_map = choose_device_map(args)
    placement = {"device_map": device_map, "max_memory": read_max_memory(args)}
    with quiet():
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=args.trust_remote_code, local_files_only=True
        )
    set_labels(args, config)
    scale_rope(args, config)
    plan.adapt_config(config)
    auto_class = choose_class(args, config)
    with quiet():
        loaded: object = auto_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation="flash_attention_2" if args.attn_impl == "flash_attn" else args.attn_impl,
            trust_remote_code=args.trust_remote_code,
            use_safetensors=args.use_safetensors or has_safetensors(folder),
            # What is no tensor in a pickle is refused.
            weights_only=True,
            local_files_only=True,
            output_loading_info=True,
            **placement,
            **cast("dict[str, Any]", plan.options),
        )
    model, report = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    check_placed(model, device_map)
    plan.finish(model)
    surplus = sorted(report["unexpected_keys"])
    if args.task_type == "seq_cls":
        # The head for words is left behind on purpose.
        surplus = [name for name in surplus if _is_in_body(model, name)]
    return _Loaded(model, sorted(report["missing_keys"]), surplus)


def _split_missing(model: PreTrainedModel, missing: list[str], args: ModelArgs) -> tuple[list[str], tuple[str, ...]]:
    """Return the weights that must not be missing, and the modules of a classifier's head, which may be."""
    if args.task_type != "seq_cls":
        return missing, ()
    head = [name for name in missing if not _is_in_body(model, name)]
    modules = dict.fromkeys(name.rpartition(".")[0] for name in head)
    return [name for name in missing if name not in head], tuple(modules)


def _is_in_body(model: PreTrainedModel, name: str) -> bool:
    return name.startswith(f"{model.base_model_prefix}.")


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
