"""Fields of tiny configs that are bound in ways of their own, by model type."""

from __future__ import annotations

from typing import Any

# Sub-configs that have no default, or one that does not fit.
SUB_CONFIGS: dict[str, dict[str, str]] = {
    "diffusion_gemma": {"vision_config": "gemma4_vision"},
    "gemma4": {"vision_config": "gemma4_vision"},
    "gemma4_assistant": {"text_config": "gemma4_text"},
    "gemma4_unified": {"vision_config": "gemma4_unified_vision"},
    "gemma4_unified_assistant": {"text_config": "gemma4_unified_text"},
    "granite4_vision": {"text_config": "granite4_vision_text"},
    "musicgen": {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_decoder"},
    "musicgen_melody": {"text_encoder": "t5", "audio_encoder": "encodec", "decoder": "musicgen_melody_decoder"},
    "vision-encoder-decoder": {"encoder": "vit", "decoder": "trocr"},
}

# Their code has sections of a rotary embedding that fill a head of 128, where the config has none.
MROPE = frozenset(
    {
        *("glm4v_text", "glm4v_moe_text", "glm_ocr_text", "qwen2_vl_text", "qwen2_5_vl_text", "hunyuan_vl_text"),
        *("paddleocr_vl_text", "qwen2_5_omni_text"),
    }
)

_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]}
_PICTURE_TOKENS = {f"IMGIMG{letter}Z": 400 + index for index, letter in enumerate("ABCDEFGHIJ")}

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "blip-2": {"image_token_index": 399},
    "aria": {"projector_patch_to_query_dict": {4: 4}},
    "bamba": {"attn_layer_indices": [1]},
    "chameleon": {"vocabulary_map": {"<image>": 399, **_PICTURE_TOKENS}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "emu3": {"vocabulary_map": {"<image>": 399, "<|extra_200|>": 398, "<|visual token 000000|>": 400}},
    "ernie4_5_vl_moe_text": {"rope_parameters": _ROPE},
    "falcon_h1": {"mamba_d_ssm": 128},
    "florence_vision": {
        "depths": (1, 1),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "embed_dim": (32, 64),
        "num_heads": (2, 4),
        "num_groups": (2, 4),
        "window_size": 4,
    },
    # Its last layers reuse the keys of earlier ones, of the same kind.
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "intermediate_size": [128] * 4,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "gemma3": {"mm_tokens_per_image": 4},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "glm5_next_text": {"index_topk": 16},
    "granite4_vision": {
        "deepstack_layer_map": [(0, 0)],
        "downsample_rate": "1/2",
        "spatial_target_layers": [0, 1, 0, 1],
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    # Its number of layers is that of one stack times the cycles: 2 high, with 3 low each.
    "hrm_text": {"num_layers_per_stack": 1, "num_hidden_layers": 8},
    "instructblip": {"image_token_index": 399},
    "instructblipvideo": {"video_token_index": 399},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mistral4": {"qk_rope_head_dim": 8, "qk_head_dim": 24},
    "llava_next": {"image_grid_pinpoints": [[64, 64]]},
    "llava_next_video": {"image_grid_pinpoints": [[64, 64]]},
    "llava_onevision": {"image_grid_pinpoints": [[64, 64]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "pp_formulanet": {"vision_config": {"post_conv_in_channels": 64, "output_channels": 64}},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 390, "vision_end_token_id": 391},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 390, "vision_end_token_id": 391},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds_dim": (32, 32),
        "axial_pos_shape": (8, 8),
    },
    "shieldgemma2": {"mm_tokens_per_image": 4},
    "step3p5": {"sliding_window": 16},
    "vipllava": {"vision_feature_layers": (-1, -2)},
    "xmod": {"default_language": "en_XX"},
    # One block is shared by all layers of this kind, which must be more than one.
    "zamba": {
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    },
    "zamba2": {
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "hybrid_layer_ids": [1, 2],
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
}
