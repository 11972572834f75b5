"""Inputs for a tiny model of any architecture: some tokens, and a picture where the model reads one.

How a picture is handed over differs from family to family, so the ways are tried one after the other; the first that
the model computes with is taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

LENGTH = 12
# Architectures that compute in blocks of fixed length, or take several streams of tokens at once.
LENGTHS = {"reformer": 64}
STREAMS = {"musicgen_decoder": 4, "musicgen_melody_decoder": 4}
Inputs = dict[str, Tensor | bool]


def tiny_inputs(model: PreTrainedModel) -> Inputs:
    """Return keyword arguments for the model's forward, the same at each call.

    Raises:
        ValueError: none of the known ways to call a model works with this one; the last error is the cause.
    """
    error: Exception | None = None
    for candidate in _candidates(model):
        try:
            inputs = candidate()
            if inputs is None:
                continue
            with torch.no_grad():
                logits_of(model(**inputs))
        except (
            TypeError,
            ValueError,
            RuntimeError,
            KeyError,
            AttributeError,
            IndexError,
            NotImplementedError,
        ) as raised:
            error = raised
            continue
        return inputs
    raise ValueError(f"no way to call {type(model).__name__} is known: {error}") from error


def has_picture(inputs: Mapping[str, object]) -> bool:
    """Say whether a picture is among the inputs."""
    return any(name in inputs for name in ("pixel_values", "flattened_patches", "image_pixel_values"))


def logits_of(output: object) -> Tensor:
    """Return the logits in a model's output.

    Raises:
        ValueError: there are none.
    """
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(f"the output is a {type(output).__name__} without logits")
    return logits


def _candidates(model: PreTrainedModel) -> Iterator[Callable[[], Inputs | None]]:
    if model.config.model_type in OWN_WAYS:
        yield lambda: OWN_WAYS[model.config.model_type](model)
        return
    if "image_grid_thw" in _parameters(model):
        yield lambda: _with_patches(model)
    if hasattr(model, "get_image_features"):
        yield lambda: _with_picture(model, {})
        yield lambda: _with_picture(model, {"image_sizes": torch.tensor([[_side(model), _side(model)]])})
        yield lambda: _with_picture(model, {"image_sizes": torch.tensor([[_side(model), _side(model)]])}, tiles=2)
        yield lambda: _with_picture(model, {}, tiles=1)
    if "pixel_values" in _parameters(model):
        yield lambda: {"pixel_values": _picture(model), **_text(model)}
    yield lambda: _text(model)


def _pix2struct(model: PreTrainedModel) -> Inputs:
    vision = model.config.vision_config
    # Each patch begins with its row and column.
    patches = torch.randn(1, 4, 2 + vision.patch_embed_hidden_size, generator=torch.Generator().manual_seed(2))
    patches[..., :2] = torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]])
    text = _text(model)
    return {"flattened_patches": patches, "decoder_input_ids": text["decoder_input_ids"]}


def _idefics(model: PreTrainedModel) -> Inputs:
    text = _text(model)
    mask = torch.ones(1, LENGTH, 1, dtype=torch.long)
    return {**text, "pixel_values": _picture(model)[None], "image_attention_mask": mask}


def _kosmos2(model: PreTrainedModel) -> Inputs:
    text = _text(model)
    place = torch.zeros(1, LENGTH, dtype=torch.bool)
    place[:, 1 : 1 + model.config.latent_query_num] = True
    return {**text, "pixel_values": _picture(model), "image_embeds_position_mask": place}


def _instruct_blip_video(model: PreTrainedModel) -> Inputs:
    text = _text(model, [model.config.video_token_index] * model.config.num_query_tokens * 4)
    return {
        **text,
        "pixel_values": torch.cat([_picture(model)] * 4)[None],
        "qformer_input_ids": torch.randint(5, 250, (1, 4), generator=torch.Generator().manual_seed(3)),
    }


# Architectures that no other one is called like.
OWN_WAYS: dict[str, Callable[[PreTrainedModel], Inputs]] = {
    "pix2struct": _pix2struct,
    "idefics": _idefics,
    "kosmos-2": _kosmos2,
    "instructblipvideo": _instruct_blip_video,
}


def _text(model: PreTrainedModel, picture: list[int] | None = None) -> Inputs:
    config = model.config
    generator = torch.Generator().manual_seed(1)
    length = LENGTHS.get(config.model_type, LENGTH)
    # Below 250: the ids of special tokens begin at 300.
    ids = torch.randint(5, 250, (STREAMS.get(config.model_type, 1), length), generator=generator)
    if picture is not None:
        ids = torch.cat([ids[:, :2], torch.tensor([picture]), ids[:, 2:]], dim=1)
    inputs: Inputs = {"input_ids": ids}
    parameters = _parameters(model)
    if "use_cache" in parameters:
        inputs["use_cache"] = False
    if "attention_mask" in parameters:
        inputs["attention_mask"] = torch.ones_like(ids)
    if "decoder_input_ids" in parameters:
        inputs["decoder_input_ids"] = torch.randint(5, 250, (1, LENGTH), generator=generator)
    if "qformer_input_ids" in parameters:
        inputs["qformer_input_ids"] = ids[:, :4]
    if "bbox" in parameters:
        inputs["bbox"] = torch.zeros(*ids.shape, 4, dtype=torch.long)
    if "mm_token_type_ids" in parameters or ("token_type_ids" in parameters and picture is not None):
        name = "mm_token_type_ids" if "mm_token_type_ids" in parameters else "token_type_ids"
        inputs[name] = (ids == picture[0]).long() if picture else torch.zeros_like(ids)
    return inputs


def _with_picture(model: PreTrainedModel, more: Inputs, *, tiles: int = 0) -> Inputs | None:
    """Return text with as many tokens for the picture as the model makes of it."""
    token = _image_token(model.config)
    if token is None:
        return None
    pixels = _picture(model)
    media = {"pixel_values": torch.cat([pixels] * tiles)[None] if tiles else pixels, **more}
    with torch.no_grad():
        features = cast("Any", model).get_image_features(**media)
    count = _count_rows(features)
    return {**_text(model, [token] * count), **media}


def _with_patches(model: PreTrainedModel) -> Inputs | None:
    """Return text and a picture that is already cut into patches, as Qwen2-VL takes it."""
    token = _image_token(model.config)
    vision = _vision_config(model.config)
    if token is None or vision is None:
        return None
    grid, patch = 4, int(getattr(vision, "patch_size", 14))
    frames = int(getattr(vision, "temporal_patch_size", 1) or 1)
    channels: Any = getattr(vision, "in_channels", None) or getattr(vision, "num_channels", 3)
    pixels = torch.randn(
        grid * grid, int(channels) * frames * patch * patch, generator=torch.Generator().manual_seed(2)
    )
    media = {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, grid, grid]])}
    with torch.no_grad():
        features = cast("Any", model).get_image_features(**media)
    return {**_text(model, [token] * _count_rows(features)), **media}


def _picture(model: PreTrainedModel) -> Tensor:
    side = _side(model)
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))


def _side(model: PreTrainedModel) -> int:
    size: Any = getattr(_vision_config(model.config) or model.config, "image_size", None) or 64
    return int(size[0] if isinstance(size, list | tuple) else size)


def _vision_config(config: PretrainedConfig) -> PretrainedConfig | None:
    for name in ("vision_config", "encoder", "vq_config"):
        found = getattr(config, name, None)
        if isinstance(found, PretrainedConfig):
            return found
    return None


def _image_token(config: PretrainedConfig) -> int | None:
    for name in ("image_token_id", "image_token_index", "media_placeholder_token_id"):
        token = getattr(config, name, None)
        if isinstance(token, int):
            return token
    return None


def _count_rows(features: object) -> int:
    """Return how many tokens the features of one picture stand for."""
    found = getattr(features, "pooler_output", features)
    if isinstance(found, list | tuple):
        return sum(_count_rows(each) for each in found)
    if not isinstance(found, Tensor):
        raise ValueError(f"the features of a picture are a {type(found).__name__}; expected a tensor")
    return found.numel() // found.shape[-1]


def _parameters(model: PreTrainedModel) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters
