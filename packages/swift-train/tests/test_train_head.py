"""The head computes only what is wanted, and the same as the model's own logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from swift_train.head import WantedTokens, find_head
from swift_tuners import Swift
from swift_tuners.tuners.lora import LoraArgs
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
# What each does to its logits: nothing, a cap, factors, a bias.
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "gemma2, capped": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=2.0)),
    "cohere, scaled": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)),
    "granite, scaled": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)),
    "phi, with a bias": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2)),
}


def by_logits(model: nn.Module, tokens_BT: Tensor, places_N: Tensor, labels_N: Tensor) -> Tensor:
    logits_BTV = model(input_ids=tokens_BT).logits
    return torch.log_softmax(logits_BTV.flatten(0, 1)[places_N].float(), dim=-1).gather(1, labels_N[:, None])[:, 0]


@pytest.mark.parametrize("knows_gradient", [False, True], ids=["any loss", "a weighted sum"])
@pytest.mark.parametrize("trains_head", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("name", list(MODELS))
def test_logps_and_gradients_are_those_of_the_logits(name: str, trains_head: bool, knows_gradient: bool) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.get_output_embeddings().requires_grad_(trains_head)
    tokens_BT = torch.randint(64, (2, 7))
    places_N, labels_N = torch.tensor([0, 3, 5, 9, 12]), torch.randint(64, (5,))
    weights_N = torch.tensor([1.0, 2.0, -0.5, 0.25, 3.0])
    tap = find_head(model, vocabulary=64)
    assert tap is not None
    expected_N = by_logits(model, tokens_BT, places_N, labels_N)
    (weights_N * expected_N).sum().backward()
    gradients = {key: each.grad.clone() for key, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    wanted = WantedTokens(places_N=places_N, labels_N=labels_N, gradient_N=weights_N if knows_gradient else None)
    with tap.open(wanted):
        model(input_ids=tokens_BT)
        logps_N = tap.take()
    (weights_N * logps_N).sum().backward()
    # float32 sums in another order.
    torch.testing.assert_close(logps_N, expected_N, rtol=1e-5, atol=1e-5)
    assert {key for key, each in model.named_parameters() if each.grad is not None} == set(gradients)
    for key, each in model.named_parameters():
        if key in gradients:
            torch.testing.assert_close(each.grad, gradients[key], rtol=1e-4, atol=1e-5, msg=key)


def test_a_closed_tap_leaves_the_model_as_it_was() -> None:
    model = MODELS["llama"]().eval()
    tokens = torch.randint(64, (1, 5))
    before = model(input_ids=tokens).logits
    tap = find_head(model, vocabulary=64)
    assert tap is not None
    with tap.open(WantedTokens(places_N=torch.tensor([1]), labels_N=torch.tensor([2]))):
        model(input_ids=tokens)
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_a_head_that_adds_something_of_its_own_is_left_to_the_model() -> None:
    adapted = Swift.prepare_model(MODELS["llama"](), LoraArgs(target_modules=["lm_head"], dropout=0.0).build_config())
    assert find_head(adapted, vocabulary=64) is None

    shifted = MODELS["llama"]()
    shifted.register_forward_hook(add_to_first_token)
    assert find_head(shifted, vocabulary=64) is None


def add_to_first_token(_module: nn.Module, _inputs: object, output: CausalLMOutput) -> CausalLMOutput:
    assert output.logits is not None
    output.logits.add_(torch.eye(64)[0])
    return output
