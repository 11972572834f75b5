"""Virtual tokens in front of a model's input: what they do to the arguments of a call, and to its output.

Callers go on speaking of their own tokens only: mask, positions and labels come in, and logits go out, as if there
were no virtual ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .errors import UnsupportedConfig

Call: TypeAlias = dict[str, Any]
"""The arguments of a model's forward by name; what they are is up to the model."""

_IGNORED_LABEL = -100
_CACHES = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")
_PACKED = ("cu_seq_lens_q", "cu_seq_lens_k")
_TYPE_IDS = ("token_type_ids", "mm_token_type_ids")


def name_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Return the arguments of a call of the model, all by name."""
    if not args:
        return dict(kwargs)
    parameters = inspect.signature(model.forward).parameters.values()
    names = [each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(names):
        raise TypeError(f"{type(model).__name__} takes {len(names)} positional arguments; {len(args)} were given")
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def input_shape(call: Call) -> tuple[int, int]:
    """Return the rows and the tokens that a call brings.

    Raises:
        UnsupportedConfig: it brings neither ids nor embeddings.
    """
    for name in ("input_ids", "inputs_embeds"):
        if call.get(name) is not None:
            return call[name].shape[0], call[name].shape[1]
    raise UnsupportedConfig("the call has neither input_ids nor inputs_embeds; virtual tokens need one to stand before")


def is_continuation(call: Call) -> bool:
    """Say whether the call brings a cache that holds tokens already, such as each but the first in generation.

    Raises:
        UnsupportedConfig: the cache does not tell.
    """
    return any(_holds_tokens(layer) for layer in _cache_layers(call))


def check_first_call(call: Call, owner: str) -> None:
    """Refuse arguments which virtual tokens cannot go with.

    Args:
        call: its arguments.
        owner: the tuner, for messages.

    Raises:
        UnsupportedConfig: rows are packed; the mask is not one number for each token; the cache has a fixed size; the
            output would be a tuple; or positions of images must be known and are not.
    """
    if _is_packed(call):
        raise UnsupportedConfig(
            f"{owner} got packed rows: only the first document of a row would see the virtual tokens; "
            "train without packing"
        )
    mask = call.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        form = f"{mask.dim()} dimensions" if isinstance(mask, Tensor) else f"type {type(mask).__name__}"
        raise UnsupportedConfig(f"{owner} got an attention_mask of {form}; expected rows by tokens, as tokenizers make")
    cache = call.get("past_key_values")
    if any(getattr(layer, "max_cache_len", None) for layer in getattr(cache, "layers", [])):
        raise UnsupportedConfig(
            f"{owner} got a {type(cache).__name__}, which has no room for the virtual tokens; use a dynamic cache"
        )
    if call.get("return_dict") is False:
        raise UnsupportedConfig(f"{owner} finds the logits by name; leave return_dict=False out")
    if call.get("position_ids") is None:
        grids = [name for name in ("image_grid_thw", "video_grid_thw") if call.get(name) is not None]
        if grids:
            raise UnsupportedConfig(
                f"{owner} got {grids[0]} without position_ids, which the model would work out without the virtual "
                "tokens; give position_ids"
            )


def prepend_embeddings(call: Call, embed: Callable[[Tensor], Tensor], prompt_VD: Tensor) -> None:
    """Put virtual tokens before a call's embeddings, and extend all that goes with them.

    Args:
        call: changed in place.
        embed: the model's embedding, from ids to vectors.
        prompt_VD: one vector for each virtual token.
    """
    num_rows, num_virtual = input_shape(call)[0], prompt_VD.shape[0]
    given = call.get("inputs_embeds")
    embeds = embed(call["input_ids"]) if given is None else given
    prompt = prompt_VD.to(embeds.device, embeds.dtype).expand(num_rows, -1, -1)
    call["inputs_embeds"], call["input_ids"] = torch.cat([prompt, embeds], dim=1), None
    _prepend(call, "attention_mask", num_virtual, 1)
    for name in ("labels", "shift_labels"):
        _prepend(call, name, num_virtual, _IGNORED_LABEL)
    for name in _TYPE_IDS:
        _prepend(call, name, num_virtual, 0)
    positions = call.get("position_ids")
    if positions is not None:
        first = torch.arange(num_virtual, dtype=positions.dtype, device=positions.device)
        first = first.expand(*positions.shape[:-1], -1)
        call["position_ids"] = torch.cat([first, positions + num_virtual], dim=-1)
    # The model counts again, by the embeddings.
    call.pop("cache_position", None)
    kept = call.get("logits_to_keep")
    if isinstance(kept, Tensor):
        call["logits_to_keep"] = torch.where(kept >= 0, kept + num_virtual, kept)


def follow_cached(call: Call, num_virtual: int) -> None:
    """Make a call with new tokens right for a cache that virtual tokens were just put into; it is changed in place."""
    _prepend(call, "attention_mask", num_virtual, 1)
    for name in ("position_ids", "cache_position"):
        if call.get(name) is not None:
            call[name] = call[name] + num_virtual


def follow_continuation(call: Call, num_virtual: int, owner: str) -> None:
    """Make a call right whose cache has begun with virtual tokens at an earlier call; it is changed in place.

    Raises:
        UnsupportedConfig: the mask shows that the cache does not hold them.
    """
    mask, length = call.get("attention_mask"), input_shape(call)[1]
    lengths = [_cached_length(layer) for layer in _cache_layers(call)]
    known = [each for each in lengths if each is not None]
    if isinstance(mask, Tensor) and mask.dim() == 2 and known:
        if mask.shape[1] != max(known) + length - num_virtual:
            raise UnsupportedConfig(
                f"{owner} got a mask of {mask.shape[1]} tokens with {length} new and {max(known)} cached ones, "
                f"{num_virtual} of which should be virtual; fill the cache with this tuner active, and give a mask of "
                "your own tokens"
            )
        _prepend(call, "attention_mask", num_virtual, 1)
    if call.get("position_ids") is not None:
        call["position_ids"] = call["position_ids"] + num_virtual


def cut_output(output: Any, call: Call, num_virtual: int) -> None:  # noqa: ANN401  # the model's own class
    """Take the virtual positions off logits and hidden states.

    Args:
        output: changed in place.
        call: the arguments that the model got, as `prepend_embeddings` left them.
        num_virtual: how many positions it put in front.

    Raises:
        UnsupportedConfig: the output is a tuple, or has no tokens.
    """
    if isinstance(output, tuple) or not hasattr(output, "keys"):
        raise UnsupportedConfig(f"the model returned a {type(output).__name__}; expected an output with names")
    length = call["inputs_embeds"].shape[1] - num_virtual
    for name in output.keys():  # noqa: SIM118  # an output of transformers iterates over what it holds
        value = getattr(output, name)
        if name == "logits" and isinstance(call.get("logits_to_keep"), Tensor):
            continue
        if name in {"logits", "last_hidden_state"}:
            setattr(output, name, value[:, -length:])
        elif name == "hidden_states":
            output.hidden_states = tuple(each[:, -length:] for each in value)
        elif name == "attentions":
            # What the caller's tokens attended to, virtual ones included.
            output.attentions = tuple(each if each is None else each[:, :, -length:] for each in value)


def without_cache(output: Any) -> Any:  # noqa: ANN401  # the model's own class
    """Return an output without the cache that it holds."""
    if isinstance(output, tuple) or not hasattr(output, "items"):
        return output
    return type(output)(**{name: value for name, value in output.items() if name != "past_key_values"})


def _prepend(call: Call, name: str, num_virtual: int, value: int) -> None:
    given = call.get(name)
    if given is not None:
        call[name] = torch.cat([given.new_full((given.shape[0], num_virtual), value), given], dim=1)


def _is_packed(call: Call) -> bool:
    """Say whether positions start again within a row."""
    if any(call.get(name) is not None for name in _PACKED):
        return True
    positions, mask = call.get("position_ids"), call.get("attention_mask")
    if positions is None or positions.shape[-1] < 2:
        return False
    # With several sorts of positions (3 x B x T), the first is that of time, which stands still within an image.
    stands_still = positions.dim() > 2
    positions = positions[0] if stands_still else positions
    steps = positions.diff(dim=-1)
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == positions.shape[1]:
        # Padding has any position.
        kept = mask.bool()
        return bool(((steps < 0) & kept[:, 1:] & kept[:, :-1]).any())
    return bool((steps < 0 if stands_still else steps <= 0).any())


def _cache_layers(call: Call) -> list[Any]:
    caches = {name: call[name] for name in _CACHES if call.get(name) is not None}
    for name, cache in caches.items():
        if not hasattr(cache, "layers"):
            raise UnsupportedConfig(
                f"{name} is a {type(cache).__name__}, which does not tell whether it begins with the virtual tokens; "
                "call without it (use_cache=False in generation)"
            )
    return [layer for cache in caches.values() for layer in cache.layers]


def _cached_length(layer: Any) -> int | None:  # noqa: ANN401  # any of transformers' classes
    """Return how many tokens a layer of a cache holds; None for a state that does not count them."""
    count = getattr(layer, "get_seq_length", None)
    return None if count is None else int(count())


def _holds_tokens(layer: Any) -> bool:  # noqa: ANN401  # any of transformers' classes
    states = getattr(layer, "has_previous_state", None)
    return bool(_cached_length(layer)) or (isinstance(states, dict) and any(states.values()))
