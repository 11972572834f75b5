"""NEFTune: the noise is as the paper's code makes it, in training only, and padding does not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from swift_tuners import Swift, SwiftModel
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import (
    answer,
    check_tuner,
    tiny_decoder,
    tiny_decoder_inputs,
    tiny_vlm,
    tiny_vlm_inputs,
    toy_mlp,
)
from swift_tuners.tuners.neftune import NEFTuneConfig
from torch import Tensor


def noisy(model: SwiftModel, **inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the embedding returns in training, less what it returns otherwise; and the latter."""
    caught: list[Tensor] = []
    host: Any = model.host
    embedding = host.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda module, args, output: caught.append(output.detach().clone()))
    torch.manual_seed(7)
    for training in (True, False):
        model.train(training)
        with torch.no_grad():
            model(**inputs)
    handle.remove()
    return caught[0] - caught[1], caught[1]


def uniform(like: Tensor) -> Tensor:
    torch.manual_seed(7)
    return torch.zeros_like(like).uniform_(-1, 1)


def test_it_keeps_the_laws() -> None:
    check_tuner(NEFTuneConfig, tiny_decoder, tiny_decoder_inputs())


def test_the_noise_is_alpha_over_the_root_of_tokens_times_features() -> None:
    model = Swift.prepare_model(tiny_decoder(), NEFTuneConfig(noise_alpha=10))
    noise, plain = noisy(model, **tiny_decoder_inputs())
    # 7 tokens of 32 features; uniform noise as in the paper's code
    expected = uniform(plain) * 10 / (7 * 32) ** 0.5
    assert torch.allclose(noise, expected, atol=1e-6)
    assert noise.abs().max() > 0.5 * 10 / (7 * 32) ** 0.5


def test_padding_is_not_counted_and_gets_no_noise() -> None:
    model = Swift.prepare_model(tiny_decoder(), NEFTuneConfig())
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1]])
    noise, plain = noisy(model, **tiny_decoder_inputs(), attention_mask=mask)
    # As in the paper's code: noise * mask * alpha / sqrt(lengths * features).
    size = 5 / (mask.sum(1) * 32).sqrt()
    expected = uniform(plain) * mask[..., None] * size[:, None, None]
    assert torch.allclose(noise, expected, atol=1e-6)
    assert bool((noise[1, :3] == 0).all())


def test_each_packed_sample_counts_its_own_tokens() -> None:
    model = Swift.prepare_model(tiny_decoder(), NEFTuneConfig())
    ids = tiny_decoder_inputs()["input_ids"][:1]
    positions = torch.tensor([[0, 1, 0, 1, 2, 3, 4]])
    noise, plain = noisy(model, input_ids=ids, position_ids=positions)
    lengths = torch.tensor([2, 2, 5, 5, 5, 5, 5])
    assert torch.allclose(noise, uniform(plain) * (5 / (lengths * 32).sqrt())[:, None], atol=1e-6)


def test_outside_of_training_and_switched_off_it_adds_nothing() -> None:
    inputs = tiny_decoder_inputs()
    plain = answer(tiny_decoder().eval(), inputs)
    model = Swift.prepare_model(tiny_decoder(), NEFTuneConfig())
    model.train()
    assert not torch.equal(answer(model, inputs), plain)
    model.deactivate()
    assert torch.equal(answer(model, inputs), plain)
    model.activate("default")
    model.eval()
    assert torch.equal(answer(model, inputs), plain)


def test_it_is_chosen_by_row() -> None:
    model = Swift.prepare_model(tiny_decoder(), {"noise": NEFTuneConfig()})
    with model.rows([None, "noise"]):
        noise, _ = noisy(model, **tiny_decoder_inputs())
    assert bool((noise[0] == 0).all()) and bool((noise[1] != 0).any())


def test_a_vision_language_model_gets_noise_by_the_mask_of_the_whole_call() -> None:
    model = Swift.prepare_model(tiny_vlm(), NEFTuneConfig())
    inputs = tiny_vlm_inputs()
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, -2:] = 0
    noise, plain = noisy(model, **inputs, attention_mask=mask)
    size = 5 / (mask.sum(1) * plain.shape[-1]).sqrt()
    assert torch.allclose(noise, uniform(plain) * mask[..., None] * size[:, None, None], atol=1e-6)


def test_where_lora_trains_new_tokens_the_wrapped_embedding_gets_the_noise_once() -> None:
    lora = peft.LoraConfig(target_modules=["q_proj"], trainable_token_indices=[5], init_lora_weights=True)
    model = Swift.prepare_model(tiny_decoder(tie_word_embeddings=False), {"lora": lora, "noise": NEFTuneConfig()})
    noise, plain = noisy(model, **tiny_decoder_inputs())
    expected = uniform(plain) * 5 / (7 * 32) ** 0.5
    assert torch.allclose(noise, expected, atol=1e-6)
    model.detach("lora")
    noise, _ = noisy(model, **tiny_decoder_inputs())
    assert torch.allclose(noise, expected, atol=1e-6)


def test_the_bfloat16_host_stays_bfloat16() -> None:
    model = Swift.prepare_model(tiny_decoder(dtype=torch.bfloat16), NEFTuneConfig())
    noise, plain = noisy(model, **tiny_decoder_inputs())
    assert noise.dtype == torch.bfloat16
    # Noise, sum and difference are each rounded to eight bits: 3 x 0.33 / 2^9 at most.
    assert torch.allclose(noise.float(), uniform(plain.float()) * 5 / (7 * 32) ** 0.5, atol=2.5e-3)


def test_it_merges_into_nothing() -> None:
    host = tiny_decoder()
    assert Swift.merge(Swift.prepare_model(host, NEFTuneConfig())) is host
    model = Swift.prepare_model(host, {"lora": peft.LoraConfig(target_modules=["q_proj"]), "n": NEFTuneConfig()})
    assert Swift.merge(model) is host
    assert not host.model.embed_tokens._forward_hooks


def test_it_is_saved_as_its_options(tmp_path: Path) -> None:
    Swift.save(Swift.prepare_model(tiny_decoder(), {"n": NEFTuneConfig(noise_alpha=15)}), tmp_path)
    loaded = Swift.from_pretrained(tiny_decoder(), tmp_path)
    assert loaded.tuners["n"].config == NEFTuneConfig(noise_alpha=15)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NEFTuneConfig(noise_alpha=-1), "noise_alpha is -1"),
        (NEFTuneConfig(noise_alpha=float("nan")), "noise_alpha is nan"),
        (NEFTuneConfig(target_modules="q_proj"), "'q_proj' names 2 modules"),
    ],
    ids=["negative", "nan", "several"],
)
def test_wrong_options_are_refused(config: NEFTuneConfig, message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(tiny_decoder(), config)


def test_a_model_without_tokens_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="ToyMLP has no embedding of tokens"):
        Swift.prepare_model(toy_mlp(), NEFTuneConfig())


def test_a_second_one_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="noise upon noise"):
        Swift.prepare_model(tiny_decoder(), {"one": NEFTuneConfig(), "two": NEFTuneConfig()})


def test_a_mask_that_does_not_tell_padding_is_refused() -> None:
    model = Swift.prepare_model(tiny_decoder(), NEFTuneConfig()).train()
    mask = torch.zeros(2, 1, 7, 7)
    with pytest.raises(UnsupportedConfig, match=r"the attention mask is \(2, 1, 7, 7\).* expected \(2, 7\)"):
        model(**tiny_decoder_inputs(), attention_mask=mask)
