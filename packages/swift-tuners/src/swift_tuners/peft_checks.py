"""What a config of PEFT's asks for and cannot have here, found out before anything has changed."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, cast

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import check_target_module_exists
from torch import Tensor, nn

from .bypassed import is_bypassed, is_never_called
from .errors import CannotMerge, DuplicateName, InvalidName, TargetNotFound, UnsupportedConfig
from .host_modules import alias_names
from .peft_layers import PeftLayer, adapters_in, find_layers, named_layers, trains_in_full
from .quantizer import quantizer_of
from .registry import nearest
from .targets import ALL_LINEAR, find_expert_parameters, find_targets, host_modules, unwrap

logger = logging.getLogger(__name__)

_ACTS_ON_CALLS = "it acts on whole calls of the model through PEFT's own model around it, which is not there"
REFUSED: dict[PeftType, str] = {
    PeftType.POLY: f"its router needs task_ids in every call; {_ACTS_ON_CALLS}",
    PeftType.XLORA: f"it runs the model twice to mix adapters; {_ACTS_ON_CALLS}",
    PeftType.SHADOW: f"it runs a second, smaller model beside the host's layers; {_ACTS_ON_CALLS}",
}
"""Methods that are not supported, with the reasons."""
REFUSED_OPTIONS: dict[str, str] = {
    "layer_replication": "it changes the host's list of layers, which switching the tuner off could not undo; "
    "LLaMA-Pro adds layers",
    "alora_invocation_tokens": f"an activated LoRA begins at these tokens in each row; {_ACTS_ON_CALLS}",
    "arrow_config": "it mixes LoRAs that PEFT loads itself; attach those as tuners of their own",
}
"""Options of PEFT's configs that are not supported, with the reasons."""


def check_method(config: PeftConfig) -> None:
    """Raise UnsupportedConfig for methods and options that cannot be kept to what a tuner promises."""
    kind = type(config).__name__
    check_numbers(config, kind)
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UnsupportedConfig(f"{kind} adds to the model's input and is none of the methods that change layers")
    reason = REFUSED.get(cast("PeftType", config.peft_type))
    if reason:
        raise UnsupportedConfig(f"{kind} is not supported: {reason}; use another method, such as LoRA")
    for option, reason in REFUSED_OPTIONS.items():
        if getattr(config, option, None):
            raise UnsupportedConfig(f"{option} of {kind} is not supported: {reason}; leave it out")


def check_numbers(config: object, kind: str) -> None:
    """Raise UnsupportedConfig if an option, or a number inside of it, is infinite or no number at all."""
    for option, given in vars(config).items():
        values = given.values() if isinstance(given, dict) else given if isinstance(given, list | tuple) else [given]
        if not all(math.isfinite(each) for each in values if isinstance(each, float)):
            raise UnsupportedConfig(f"{option} of {kind} is {given!r:.80}; expected a finite number")


def check_name(model: nn.Module, name: str) -> None:
    """Check that an adapter can have this name.

    Raises:
        DuplicateName: the model has an adapter of this name.
        InvalidName: the name is one that the model or torch uses.
    """
    if name in getattr(model, "peft_config", {}):
        raise DuplicateName(f"the model has an adapter {name!r} already; choose another name, or detach that one first")
    parts = {part for path, _ in [*model.named_modules(), *model.named_parameters()] for part in path.split(".")}
    # PEFT tells adapters apart by this part of a parameter's name, and torch keeps them in a ModuleDict.
    if name in parts or hasattr(nn.ModuleDict, name):
        raise InvalidName(f"the tuner's name {name!r} is also that of a part of the model or of torch; choose another")


def check_tokens(config: PeftConfig, model: nn.Module) -> None:
    """Check that trainable tokens are rows of the embeddings that they are named for.

    Raises:
        TargetNotFound: a name is that of no module.
        UnsupportedConfig: a token is outside the vocabulary, or the model has no embedding to find by itself.
    """
    if config.peft_type == PeftType.TRAINABLE_TOKENS:
        rows, places = getattr(config, "token_indices", None), getattr(config, "target_modules", None)
        asked = dict.fromkeys([places] if isinstance(places, str) else places or [None], rows)
    else:
        given = getattr(config, "trainable_token_indices", None)
        asked = given if isinstance(given, dict) else {None: given} if given else {}
    modules = dict(host_modules(model))
    for place, rows in asked.items():
        if place is not None:
            found = [modules[name] for name in find_targets(model, [place])]
        elif hasattr(model, "get_input_embeddings"):
            found = [cast("Any", model).get_input_embeddings()]
        else:
            raise UnsupportedConfig(
                f"trainable tokens need an embedding, and {type(model).__name__} does not say which it is; "
                "give its name: trainable_token_indices={'embedding': [...]}"
            )
        _check_rows(rows, found)


def _check_rows(rows: object, embeddings: Sequence[nn.Module]) -> None:
    if not isinstance(rows, list | tuple) or not rows or not all(isinstance(row, int) for row in rows):
        raise UnsupportedConfig(f"trainable tokens are {rows!r:.80}; expected a list of token ids")
    for embedding in embeddings:
        weight = getattr(embedding, "weight", None)
        size = weight.shape[0] if weight is not None else 0
        outside = [row for row in rows if not 0 <= row < size]
        if outside:
            raise UnsupportedConfig(
                f"trainable token {outside[0]} is outside the vocabulary of {size}; "
                "resize the embeddings before the tuner is attached"
            )


def find_embedding(model: nn.Module) -> nn.Module | None:
    """Return the embedding of tokens that a model of transformers' kind names, without tuners around it."""
    try:
        found = cast("Any", model).get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    found = unwrap(found) if isinstance(found, nn.Module) else None
    # Vision models answer with the convolution that reads patches.
    return found if hasattr(found, "embedding_dim") else None


def is_targeted(config: object, name: str) -> bool:
    """Say whether PEFT takes this for the name of a module that the config means."""
    return bool(check_target_module_exists(config, name))


def check_parameters(config: PeftConfig, model: nn.Module) -> None:
    """Raise TargetNotFound if an entry of target_parameters names no parameter of the model."""
    modules = dict(host_modules(model))
    places = {path: path for path in modules} | alias_names(model)
    names = [
        f"{path}.{name}" if path else name
        for path, first in places.items()
        for name, _ in modules[first].named_parameters(recurse=False)
    ]
    for target in getattr(config, "target_parameters", None) or ():
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise TargetNotFound(
                f"target_parameters has {target!r}, which is no parameter of the model; {nearest(target, names)}"
            )


def check_called(model: nn.Module, name: str, *, required: bool) -> None:
    """Check that the layers which an adapter was put around are called, and log those that are not always.

    Args:
        model: the host, with the adapter.
        name: the adapter's name.
        required: refuse a layer that never is; otherwise the adapter has been trained with it, and it is only logged.

    Raises:
        UnsupportedConfig: the parent of a layer computes with its weight and never calls it.
    """
    modules = dict(host_modules(model))
    names = {id(module): path for path, module in modules.items()}
    for layer in _layers_around_outputs(model, name):
        path = names.get(id(unwrap(layer)), "")
        if not is_bypassed(modules, path):
            continue
        parent = type(modules[path.rpartition(".")[0]]).__name__
        if not is_never_called(modules, path):
            logger.warning(
                "tuner %r has an adapter on %r, whose weight %s reads in a fused branch instead of calling the layer; "
                "there the adapter does nothing",
                name,
                path,
                parent,
            )
            continue
        message = (
            f"{parent} computes with the weight of {path!r} and never calls the layer, so that an adapter on it "
            "does nothing"
        )
        if required:
            raise UnsupportedConfig(
                f"{message}; leave it out, by longer target names or exclude_modules, or target the module around it"
            )
        logger.warning("tuner %r: %s", name, message)


def check_own_weights(model: nn.Module, name: str) -> None:
    """Raise CannotMerge if a weight that an adapter would be folded into is computed from others at each call.

    Such are the weights of layers with weight or spectral norm, whichever of torch's ways made them.
    """
    for path, layer in named_layers(model, name):
        base = unwrap(cast("nn.Module", layer))
        if trains_in_full(layer) or quantizer_of(base) is not None:
            continue
        for weight in {"weight", "bias", "in_proj_weight", getattr(layer, "parameter_name", "weight")}:
            if isinstance(getattr(base, weight, None), Tensor) and weight not in base._parameters:
                raise CannotMerge(
                    f"tuner {name!r} cannot be folded into the {weight} of {path!r}, which is computed from other "
                    "tensors (a parametrization, such as weight norm), so that the update would be lost; remove the "
                    "parametrization first, or save the tuner instead"
                )


def _layers_around_outputs(model: nn.Module, name: str) -> list[nn.Module]:
    """Return the layers that act when they are called: not copies of modules, nor what one layer puts inside another.

    PEFT's layer around torch's attention adds to the weights in it while it is called.
    """
    layers = [cast("nn.Module", layer) for _, _, layer in find_layers(model) if name in adapters_in(layer)]
    attention = [unwrap(layer) for layer in layers]
    inner = {id(part) for each in attention if isinstance(each, nn.MultiheadAttention) for part in each.children()}
    return [layer for layer in layers if id(layer) not in inner and not trains_in_full(cast("PeftLayer", layer))]


def warn_of_missed_experts(config: PeftConfig, model: nn.Module, name: str) -> None:
    """Log one warning if 'all-linear' leaves out experts, whose weights are no linear layers."""
    targets = getattr(config, "target_modules", None)
    if not targets or ALL_LINEAR not in ([targets] if isinstance(targets, str) else targets):
        return
    given = getattr(config, "target_parameters", None) or ()
    experts = find_expert_parameters(model)
    missed = [each for each in experts if not any(f".{each}".endswith(f".{target}") for target in given)]
    if not missed:
        return
    ends = sorted({".".join(each.split(".")[-2:]) for each in missed})
    advice = (
        f"give target_parameters={ends!r} to train them too"
        if hasattr(config, "target_parameters")
        else f"{type(config).__name__} has no target_parameters and cannot train them, LoraConfig can"
    )
    logger.warning(
        "tuner %r with target 'all-linear' does not reach the experts' weights, such as %r (%d in all): %s",
        name,
        missed[0],
        len(missed),
        advice,
    )
