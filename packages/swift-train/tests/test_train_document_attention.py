"""Joined documents see nothing of each other, on every model whose attention can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from swift_kernels import Documents
from swift_train.document_attention import find_attention
from swift_train.isolation import measure_leak
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
# Grouped heads; a sliding window on some layers, with capped scores; on all layers; norms in attention; sinks.
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, sliding_window=4, attn_logit_softcapping=3.0)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=3)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
    "gpt_oss": lambda: GptOssForCausalLM(
        GptOssConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1, sliding_window=4)
    ),
}
LENGTHS = (9, 1, 13, 5)


def positions() -> Tensor:
    return torch.cat([torch.arange(length) for length in LENGTHS])


@pytest.mark.parametrize("checkpoints", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("name", list(MODELS))
def test_joined_documents_answer_and_learn_as_each_alone(name: str, checkpoints: bool) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    model.set_attn_implementation("eager")
    model.train()
    if checkpoints:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens = torch.randint(64, (1, sum(LENGTHS)))
    weights = torch.randn(sum(LENGTHS), 64)
    alone, start = [], 0
    for length in LENGTHS:
        logits = model(input_ids=tokens[:, start : start + length], use_cache=False).logits[0]
        (logits * weights[start : start + length]).sum().backward()
        alone.append(logits.detach())
        start += length
    gradients = {key: each.grad.clone() for key, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    attention = find_attention(model, longest=max(LENGTHS))
    assert attention is not None
    with attention.joined(Documents.from_position_ids(positions())):
        logits = model(input_ids=tokens, position_ids=positions()[None], use_cache=False).logits[0]
        (logits * weights).sum().backward()
    # float32 sums in another order, through two layers.
    torch.testing.assert_close(logits, torch.cat(alone), rtol=1e-4, atol=1e-4)
    for key, each in model.named_parameters():
        if key in gradients:
            torch.testing.assert_close(each.grad, gradients[key], rtol=1e-3, atol=1e-3, msg=key)


@pytest.mark.parametrize("name", list(MODELS))
def test_outside_of_the_block_a_model_is_as_it_was_loaded(name: str) -> None:
    model = MODELS[name]().eval()
    tokens = torch.randint(64, (1, 6))
    before, chosen = model(input_ids=tokens).logits, model.config._attn_implementation
    attention = find_attention(model, longest=6)
    assert attention is not None
    with attention.joined(Documents.from_position_ids(torch.arange(6))):
        assert model.config._attn_implementation != chosen
    assert model.config._attn_implementation == chosen
    assert torch.equal(model(input_ids=tokens).logits, before)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_check_finds_them_apart(name: str) -> None:
    model = MODELS[name]()
    # torch's own attention does not cap scores.
    model.set_attn_implementation("eager")
    leak = measure_leak(model, vocabulary=64, attention=find_attention(model, longest=12))
    assert leak.relative == 0 and leak.is_apart


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            lambda: BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)), id="bloom"
        ),
        pytest.param(
            lambda: MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)),
            id="mamba",
        ),
    ],
)
def test_models_of_which_it_is_not_true_are_found_out(model: Callable[[], PreTrainedModel]) -> None:
    built = model()
    assert not measure_leak(built, vocabulary=64, attention=find_attention(built, longest=12)).is_apart


def test_attention_that_is_dropped_or_cut_into_chunks_is_left_to_the_model() -> None:
    assert find_attention(LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.1)), longest=8) is None
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.config.attention_chunk_size = 8
    assert find_attention(model, longest=9) is None and find_attention(model, longest=8) is not None
