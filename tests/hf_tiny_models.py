"""Tiny models of transformers for the processors of `hf_tiny_processors`, with weights that let every part be felt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers as hf

VOCABULARY = 512
Ids = Mapping[str, int]
"""Token ids of control tokens, by their text."""


def _text(**more: Any) -> dict[str, Any]:  # noqa: ANN401  # a configuration's values
    given = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
    }  # fmt: skip
    return given | more


def _vision(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    given = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    return given | more


def _made(name: str, **config: Any) -> Any:  # noqa: ANN401
    return getattr(hf, f"{name}ForConditionalGeneration")(getattr(hf, f"{name}Config")(**config))


def _llava(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "Llava",
        vision_config=hf.CLIPVisionConfig(**_vision()),
        text_config=hf.LlamaConfig(**_text()),
        image_token_index=ids["<image>"],
        vision_feature_layer=-1,
    )


def _llava_next(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "LlavaNext",
        vision_config=hf.CLIPVisionConfig(**_vision()),
        text_config=hf.LlamaConfig(**_text()),
        image_token_index=ids["<image>"],
        image_grid_pinpoints=[[32, 16], [16, 32]],
        vision_feature_layer=-1,
    )


def _llava_onevision(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "LlavaOnevision",
        vision_config=hf.SiglipVisionConfig(**_vision(vision_use_head=False)),
        text_config=hf.Qwen2Config(**_text()),
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=[[16, 16], [32, 16], [16, 32], [32, 32]],
        vision_feature_layer=-1,
    )


_ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
_PATCHES = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "out_hidden_size": 32, "num_heads": 2}


def _qwen(name: str, vision: Mapping[str, Any]) -> Callable[[Ids], Any]:
    def make(ids: Ids) -> Any:  # noqa: ANN401
        return _made(
            name,
            vision_config=dict(vision),
            text_config=_text(rope_parameters=_ROPE, rope_scaling=_ROPE),
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )

    return make


def _glm4v(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "Glm4v",
        vision_config={**_PATCHES, "patch_size": 14, "image_size": 28},
        text_config=_text(rope_parameters={**_ROPE, "partial_rotary_factor": 1.0}),
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )


def _idefics2(ids: Ids) -> Any:  # noqa: ANN401
    perceiver = {
        "hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
        "resampler_head_dim": 16, "num_key_value_heads": 2,
    }  # fmt: skip
    return _made(
        "Idefics2",
        vision_config=_vision(image_size=32),
        perceiver_config=perceiver,
        text_config=hf.MistralConfig(**_text()),
        image_token_id=ids["<image>"],
    )


def _idefics3(name: str) -> Callable[[Ids], Any]:
    def make(ids: Ids) -> Any:  # noqa: ANN401
        return _made(
            name,
            vision_config=_vision(patch_size=4),
            text_config=hf.LlamaConfig(**_text()),
            image_token_id=ids["<image>"],
            scale_factor=2,
        )

    return make


def _gemma3(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "Gemma3",
        vision_config=_vision(vision_use_head=False),
        text_config=hf.Gemma3TextConfig(**_text()),
        mm_tokens_per_image=4,
        image_token_index=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
    )


def _paligemma(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "PaliGemma",
        vision_config=hf.SiglipVisionConfig(**_vision(vision_use_head=False)),
        text_config=hf.GemmaConfig(**_text()),
        image_token_index=ids["<image>"],
        projection_dim=32,
    )


def _florence2(ids: Ids) -> Any:  # noqa: ANN401
    vision = {
        "depths": [1] * 4, "patch_size": [4, 2, 2, 2], "patch_stride": [2, 2, 1, 1], "patch_padding": [1, 0, 0, 0],
        "embed_dim": [8, 8, 8, 16], "num_heads": [1] * 4, "num_groups": [1] * 4, "window_size": 2,
        "projection_dim": 32, "max_position_embeddings": 8, "max_temporal_embeddings": 4,
    }  # fmt: skip
    layers = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
    text: dict[str, Any] = {
        f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in layers.items()
    }
    text_config = hf.BartConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=ids["</s>"],
        decoder_start_token_id=ids["</s>"],
        # Through its usual small weights a picture would not be felt.
        init_std=0.3,
        **text,
    )
    return _made("Florence2", vision_config=vision, text_config=text_config, image_token_id=ids["<image>"])


def _mllama(ids: Ids) -> Any:  # noqa: ANN401
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 2, "image_size": 16, "patch_size": 8, "vision_output_dim": 32,
        "intermediate_layers_indices": [0], "max_num_tiles": 4,
    }  # fmt: skip
    return _made(
        "Mllama",
        vision_config=vision,
        text_config={**_text(cross_attention_layers=[1]), "bos_token_id": 3},
        image_token_index=ids["<|image|>"],
    )


def _internvl(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "InternVL",
        vision_config=_vision(image_size=[28, 28], patch_size=[7, 7]),
        text_config=hf.Qwen2Config(**_text()),
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=4,
    )


def _qwen2_audio(ids: Ids) -> Any:  # noqa: ANN401
    audio = {
        "num_mel_bins": 16, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16, "max_source_positions": 100,
    }  # fmt: skip
    return _made(
        "Qwen2Audio",
        audio_config=audio,
        text_config=hf.Qwen2Config(**_text()),
        audio_token_index=ids["<|AUDIO|>"],
    )


def _deepseek_vl(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "DeepseekVL",
        vision_config=_vision(),
        text_config=hf.LlamaConfig(**_text()),
        image_token_id=ids["<image_placeholder>"],
    )


def _pixtral(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "Llava",
        vision_config=hf.PixtralVisionConfig(**_vision(image_size=32)),
        text_config=hf.MistralConfig(**_text()),
        image_token_index=ids["[IMG]"],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )


def _mistral3(ids: Ids) -> Any:  # noqa: ANN401
    return _made(
        "Mistral3",
        vision_config=hf.PixtralVisionConfig(**_vision(image_size=32, patch_size=4)),
        text_config=hf.MistralConfig(**_text()),
        image_token_index=ids["[IMG]"],
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )


MODELS: dict[str, Callable[[Ids], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen(
        "Qwen2VL", {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1, "patch_size": 14}
    ),
    "qwen2_5_vl": _qwen("Qwen2_5_VL", {**_PATCHES, "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56}),
    "qwen3_vl": _qwen(
        "Qwen3VL", {**_PATCHES, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    ),
    "glm4v": _glm4v,
    "idefics2": _idefics2,
    "idefics3": _idefics3("Idefics3"),
    "smolvlm": _idefics3("SmolVLM"),
    "gemma3": _gemma3,
    "mllama": _mllama,
    "internvl": _internvl,
    "qwen2_audio": _qwen2_audio,
    "deepseek_vl": _deepseek_vl,
    "pixtral": _pixtral,
    "mistral3": _mistral3,
}
FAMILY_MODELS: dict[str, Callable[[Ids], Any]] = {"paligemma": _paligemma, "florence2": _florence2}


def tiny_model(make: Callable[[Ids], Any], ids: Ids) -> Any:  # noqa: ANN401
    """Return a model, with parts opened that begin closed or at zero."""
    torch.manual_seed(0)
    model = make(ids).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "gate" in name and weights.ndim == 1:
                weights.fill_(1.0)
            elif not weights.any():
                weights.normal_(std=0.1)
    return model
