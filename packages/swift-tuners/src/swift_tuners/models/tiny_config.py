"""A tiny config for any architecture of transformers: its default config with every size cut down.

One size for each kind of field makes sizes that belong together agree: 4 heads of 16 fill a width of 64. The few
configs whose fields are bound in other ways are in `tiny_exceptions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from .tiny_exceptions import EXCEPTIONS, MROPE, SUB_CONFIGS

WIDTH, HEADS, HEAD_WIDTH, VOCABULARY = 64, 4, 16, 512
FIRST_TOKEN_ID = 300
# Names of fields and the most that such a field may be; the first line that fits counts.
LIMITS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(rf"(?:{names})$"), limit)
    for names, limit in (
        (
            r"max_position_embeddings|n_positions|max_seq_len|n_ctx|context_length|seq_len|max_(?:source|target)_positions",
            512,
        ),
        (r"original_max_position_embeddings|max_2d_position_embeddings|model_max_length|sequence_length", 512),
        (
            r"vocab|vocab_size|^n_vocab|vocab_size_per_layer_input|num_embeddings|vocab_offset|ngram_vocab_size_base",
            VOCABULARY,
        ),
        (r"codebook_size|num_centroids", 64),
        (r"base_channels", 32),
        (r"rotary_dim", 8),
        (r"qk_head_dim", 2 * HEAD_WIDTH),
        (
            r"head_dim|d_kv|kv_channels|dim_head|d_head|head_size|mamba_d_head|qk_nope_head_dim|linear_head_dim|num_pos_feats",
            HEAD_WIDTH,
        ),
        (r"num_key_value_heads|num_kv_heads|kv_n_heads|num_key_heads", 2),
        (r"attention_heads|n_heads?|num_heads|heads|num_value_heads", HEADS),
        (r"num_hidden_layers|n_layers?|num_layers|layers|depth|num_blocks|num_global_layers|num_layers_per_stack", 2),
        (r"intermediate_size|ffn_dim|n_inner|d_inner|d_ff|dff|dim_ff|ffn_hidden_size|mlp_dim|feed_forward_size", 128),
        (r"intermediate_size_mlp|expert_dim", 128),
        (
            r"hidden_size|d_model|n_embd|embed_dim|hidden_dim|embedding_size|embedding_dim|emb_dim|lru_width|projection_dim",
            WIDTH,
        ),
        (
            r"output_dim|input_dim|dim_model|(?<!num_)(?<!in_)(?<!audio_)channels|hidden_size_per_layer_input|mid_dim|attention_hidden_size",
            WIDTH,
        ),
        (
            r"classifier_proj_size|hidden_size_global|out_channel|vector_quantization_hidden_dimension|codebook_dim",
            WIDTH,
        ),
        (r"num_experts|n_routed_experts|num_local_experts|expert_num", 4),
        (r"experts_per_tok(?:en)?|moe_topk|moe_k|moe_top_k|top_k_experts", 2),
        (r"n_group|topk_group|num_expert_group", 1),
        (r"_rank|lowrank", 8),
        (r"first_k_dense_replace|num_dense_layers|num_nextn_predict_layers", 1),
        (r"state_size|d_state|index_topk", 8),
        (r"n_groups|ngroups|o_groups", 2),
        (r"image_size|resolution|max_img_size|max_image_size", 64),
        (r"sliding_window|attention_window_size|window", 16),
        (r"num_query_tokens|latent_query_num|n_latents|num_latents|prompt_length", 8),
    )
)
DEPTH_FIELDS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "num_decoder_layers",
    "depth",
)
DERIVED = frozenset(
    {
        "model_type",
        "transformers_version",
        "architectures",
        "dtype",
        "torch_dtype",
        "_name_or_path",
        "output_attentions",
    }
)
TOKEN_FIELD = re.compile(r"token_ids?$|token_index$|(?<!_per)_token$|^im_\w+_id$")


def tiny_config(model_type: str) -> PretrainedConfig:
    """Return a config of this type with which a model has some ten or hundred thousand weights.

    Raises:
        KeyError: transformers has no config of this type.
    """
    kind = CONFIG_MAPPING[model_type]
    token_ids: dict[int, int] = {}
    fixed = EXCEPTIONS.get(model_type, {})
    subs: dict[str, Any] = {
        name: shrink(CONFIG_MAPPING[sub](), token_ids, fixed.get(name))
        for name, sub in SUB_CONFIGS.get(model_type, {}).items()
    }
    if kind.has_no_defaults_at_init:
        # Composed of any two models: their types are told by their dictionaries only.
        return kind(**{name: sub.to_dict() for name, sub in subs.items()})
    return shrink(kind(**subs), token_ids)


def shrink(
    config: PretrainedConfig, token_ids: dict[int, int], exceptions: dict[str, Any] | None = None
) -> PretrainedConfig:
    """Return a tiny config of the same class, made anew so that what it derives agrees with its sizes.

    Args:
        config: a default config, with its sub-configs.
        token_ids: what each token id above the vocabulary became so far; the same id becomes the same in all configs.
        exceptions: fields that are as given here; those of a sub-config in a dictionary under its name.
    """
    values: dict[str, Any] = {key: value for key, value in config.to_dict().items() if key not in DERIVED}
    subs = {key: value for key, value in vars(config).items() if isinstance(value, PretrainedConfig)}
    old_depth = _depth(values)
    exceptions = EXCEPTIONS.get(config.model_type, {}) | (exceptions or {})
    small: dict[str, Any] = {
        key: shrink(subs[key], token_ids, exceptions.pop(key, None)) if key in subs else _cut(key, value, token_ids)
        for key, value in values.items()
    }
    if old_depth is not None:
        depth = min(old_depth, max(2, *_kinds_of_layers(values, old_depth)))
        small.update({key: depth for key in DEPTH_FIELDS if isinstance(values.get(key), int)})
        small.update(dict(_cut_lists(small, old_depth, depth)))
    _fill_heads(values, small)
    _set_rope(config.model_type, small)
    small.update(exceptions)
    return type(config)(**small)


def _cut(key: str, value: Any, token_ids: dict[int, int]) -> Any:  # noqa: ANN401  # a config's fields are of any type
    if TOKEN_FIELD.search(key):
        if isinstance(value, list | tuple):
            return [_token(each, token_ids) for each in value]
        return _token(value, token_ids)
    if isinstance(value, int) and not isinstance(value, bool):
        limit = next((limit for names, limit in LIMITS if names.search(key)), value)
        return min(value, limit)
    if isinstance(value, list | tuple) and value and all(type(each) is int for each in value) and key.endswith("size"):
        return type(value)(_cut(key, each, token_ids) for each in value)
    return value


def _token(value: Any, token_ids: dict[int, int]) -> Any:  # noqa: ANN401  # a config's fields are of any type
    if not isinstance(value, int) or isinstance(value, bool) or value < FIRST_TOKEN_ID:
        return value
    return token_ids.setdefault(value, FIRST_TOKEN_ID + len(token_ids))


def _depth(values: dict[str, Any]) -> int | None:
    return next((values[key] for key in DEPTH_FIELDS if isinstance(values.get(key), int)), None)


def _kinds_of_layers(values: dict[str, Any], depth: int) -> Iterator[int]:
    yield 0
    for value in values.values():
        if isinstance(value, list | tuple) and len(value) == depth and all(isinstance(each, str) for each in value):
            yield len(set(value))


def _cut_lists(small: dict[str, Any], old_depth: int, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield what has an item for each layer, cut to the new depth; of named kinds, one of each comes first."""
    for key, value in small.items():
        if isinstance(value, list | tuple) and old_depth > depth and len(value) in (old_depth, old_depth + 1):
            named = all(isinstance(each, str) for each in value)
            items = [*dict.fromkeys(value), *value] if named else list(value)
            yield key, items[: depth + len(value) - old_depth]
        elif key == "per_layer_config" and isinstance(value, dict):
            yield key, {layer: each for layer, each in value.items() if int(layer) < depth}


def _fill_heads(values: dict[str, Any], small: dict[str, Any]) -> None:
    """Say what a config leaves to be derived from larger sizes, and keep as many key heads as query heads where so."""
    if small.get("head_dim", 0) is None:
        small["head_dim"] = HEAD_WIDTH
    for heads in ("num_attention_heads", "n_head", "num_heads"):
        for keys in ("num_key_value_heads", "num_kv_heads"):
            if isinstance(values.get(heads), int) and values.get(keys, 0) in (None, values[heads]):
                small[keys] = small[heads]
    for heads, width, expand in (
        ("mamba_n_heads", "mamba_d_head", "mamba_expand"),
        ("n_mamba_heads", "mamba_headdim", "mamba_expand"),
        ("mamba_num_heads", "mamba_head_dim", "expand"),
        ("num_heads", "head_dim", "expand"),
    ):
        if {heads, width, expand} <= small.keys():
            small[heads], small[width] = HEADS, WIDTH * int(small[expand]) // HEADS


def _set_rope(model_type: str, small: dict[str, Any]) -> None:
    """Fit the three sections of a rotary embedding for pictures to the head's width."""
    rope = small.get("rope_parameters")
    if not isinstance(rope, dict) or ("mrope_section" not in rope and model_type not in MROPE):
        return
    pairs = int((small.get("head_dim") or HEAD_WIDTH) * rope.get("partial_rotary_factor", 1.0)) // 2
    side = pairs * 3 // 8
    small["rope_parameters"] = {**rope, "mrope_section": [pairs - 2 * side, side, side]}
