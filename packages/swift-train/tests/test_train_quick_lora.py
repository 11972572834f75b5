"""LoRA in one step of autograd gives what PEFT's own layers give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from swift_kernels.lora import lora_linears
from swift_train.peft_quick_lora import quicken_lora, slow_lora
from swift_tuners import Swift, SwiftModel
from swift_tuners.tuners.lora import LoraArgs
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def adapted(host: PreTrainedModel, **options: object) -> SwiftModel:
    torch.manual_seed(0)
    model = Swift.prepare_model(host, LoraArgs(rank=3, **{"dropout": 0.0, **options}).build_config())  # type: ignore[arg-type]
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.02)
    return model.train()


def llama(**options: Any) -> LlamaForCausalLM:  # noqa: ANN401  # of the config
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **options))


def show(model: SwiftModel) -> None:
    model(input_ids=torch.arange(2)[None])


def step(model: SwiftModel) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of one forward and backward pass."""
    model.zero_grad()
    logits = model(input_ids=torch.arange(22).view(2, 11), use_cache=False).logits
    logits.float().square().mean().backward()
    return logits.detach(), {key: each.grad.clone() for key, each in model.named_parameters() if each.grad is not None}


CASES: dict[str, Callable[[], SwiftModel]] = {
    "all linear": lambda: adapted(llama()),
    "with biases": lambda: adapted(llama(attention_bias=True, mlp_bias=True)),
    "some": lambda: adapted(llama(), target_modules=["q_proj", "down_proj"]),
    "rank-stabilized": lambda: adapted(llama(), use_rslora=True),
    "left to PEFT: DoRA": lambda: adapted(llama(), use_dora=True),
    "experts": lambda: adapted(
        MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1)),
        target_modules=["q_proj", "k_proj", "v_proj", "gate"],
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_output_and_gradients_are_pefts(name: str) -> None:
    model = CASES[name]()
    logits, gradients = step(model)
    assert quicken_lora(model, partial(show, model)) > 0
    for _ in range(2):
        quick, quick_gradients = step(model)
        torch.testing.assert_close(quick, logits, rtol=1e-4, atol=1e-5)
        assert quick_gradients.keys() == gradients.keys()
        for key, expected in gradients.items():
            torch.testing.assert_close(quick_gradients[key], expected, rtol=1e-3, atol=1e-6, msg=key)


def test_layers_that_share_an_input_are_computed_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = adapted(llama()), list[int]()

    def counting(x: Tensor, layers: list[object], **options: object) -> tuple[Tensor, ...]:
        calls.append(len(layers))
        return lora_linears(x, layers, **options)  # type: ignore[arg-type]  # passed on

    quicken_lora(model, partial(show, model))
    monkeypatch.setattr("swift_train.peft_quick_lora.lora_linears", counting)
    assert calls == []
    step(model)
    # For each of two layers: query, key and value; output; gate and up; down.
    assert calls == [3, 1, 2, 1] * 2


def test_checkpointed_layers_give_the_same_gradients() -> None:
    model = adapted(llama())
    _, gradients = step(model)
    quicken_lora(model, partial(show, model))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for _ in range(2):
        for key, grad in step(model)[1].items():
            torch.testing.assert_close(grad, gradients[key], rtol=1e-3, atol=1e-6, msg=key)


def test_a_bfloat16_base_gives_adapters_float32_gradients_at_least_as_exact_as_pefts() -> None:
    host = llama().bfloat16()
    _, exact = step(adapted(copy.deepcopy(host).float()))
    model = adapted(host)
    _, pefts = step(model)
    quicken_lora(model, partial(show, model))
    _, quick = step(model)
    assert {each.dtype for each in quick.values()} == {torch.float32}

    def error(gradients: dict[str, Tensor]) -> float:
        return sum(float((gradients[key] - exact[key]).norm() / exact[key].norm()) for key in exact) / len(exact)

    # Each rounds to bfloat16 in other places; both are some percent off.
    assert error(quick) < 1.25 * error(pefts)


def test_outside_training_and_with_several_adapters_peft_computes() -> None:
    model = adapted(llama())
    tokens = torch.arange(8)[None]
    expected = model.eval()(input_ids=tokens).logits
    quicken_lora(model, partial(show, model))
    assert torch.equal(model(input_ids=tokens).logits, expected)
    other = Swift.prepare_model(adapted(llama()).unload(), {"a": LoraArgs(dropout=0.0).build_config()})
    quicken_lora(other, partial(show, other))
    other.deactivate()
    host = llama().eval()
    assert torch.equal(other.eval()(input_ids=tokens).logits, host(input_ids=tokens).logits)


def test_dropout_is_drawn_anew_and_found_again_by_its_seed() -> None:
    model = adapted(llama(), dropout=0.3)
    quicken_lora(model, partial(show, model))
    step(model)
    torch.manual_seed(5)
    first, second = step(model)[0], step(model)[0]
    torch.manual_seed(5)
    again = step(model)[0]
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_what_is_taken_over_is_given_back() -> None:
    model = adapted(llama())
    quicken_lora(model, partial(show, model))
    step(model)
    slow_lora(model)
    layers = [each for each in model.modules() if hasattr(each, "lora_A")]
    assert layers and not any("forward" in vars(each) for each in layers)


def test_a_copy_computes_with_its_own_weights() -> None:
    model = adapted(llama())
    quicken_lora(model, partial(show, model))
    step(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, each in twin.named_parameters():
            if "lora_" in name:
                each.zero_()
    tokens = torch.arange(8)[None]
    expected = nn.Module.train(llama(), False)(input_ids=tokens).logits
    torch.testing.assert_close(twin(input_ids=tokens).logits, expected, rtol=1e-4, atol=1e-5)
