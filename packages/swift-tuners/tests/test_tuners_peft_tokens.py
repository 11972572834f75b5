"""Trainable tokens and experts' weights: what trains beside the layers that a method changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import TargetNotFound, UnsupportedConfig
from swift_tuners.testing import answer, check_tuner, disturb, tiny_decoder, toy_mlp
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

# All of the trained tokens and others are in it.
INPUTS = {"input_ids": torch.tensor([[3, 5, 9, 40, 7], [5, 5, 2, 3, 11]])}
TOKENS: dict[str, Callable[[], peft.PeftConfig]] = {
    "beside lora": lambda: LoraConfig(r=2, target_modules="all-linear", trainable_token_indices=[3, 5, 40]),
    "by name": lambda: LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 5]}),
    "in embedding and head": lambda: LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [3, 5], "lm_head": [3, 5]}
    ),
    "alone": lambda: peft.TrainableTokensConfig(token_indices=[3, 5, 40]),
}
QUICK = [("beside lora", True), ("alone", False)]
each_kind = pytest.mark.parametrize("make_config", TOKENS.values(), ids=TOKENS.keys())
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def make_decoder(*, tied: bool = True) -> nn.Module:
    model = tiny_decoder(tie_word_embeddings=tied)
    model.eval()
    return model


def check_format(make_model: Callable[[], nn.Module], make_config: Callable[[], peft.PeftConfig], folder: Path) -> None:
    """Check that plain PEFT answers as what we saved, and we as what it saved."""
    ours = Swift.prepare_model(make_model(), make_config())
    disturb(ours)
    ours.save_pretrained(folder / "ours")
    theirs = peft.PeftModel.from_pretrained(make_model(), folder / "ours")
    assert torch.equal(answer(theirs, INPUTS), answer(ours, INPUTS))
    plain = peft.get_peft_model(make_model(), make_config()).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in plain.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    plain.save_pretrained(str(folder / "theirs"))
    loaded = Swift.from_pretrained(make_model(), folder / "theirs")
    assert torch.equal(answer(loaded, INPUTS), answer(plain, INPUTS))


# All pairs hold; the quick ones are enough for each change.
@pytest.mark.parametrize(
    ("kind", "tied"),
    [
        pytest.param(kind, tied, marks=() if (kind, tied) in QUICK else pytest.mark.slow)
        for kind in TOKENS
        for tied in (True, False)
    ],
)
def test_trainable_tokens_keep_the_laws(kind: str, tied: bool) -> None:
    # Two tuners cannot train the same tokens, hence several=False.
    check_tuner(TOKENS[kind], lambda: make_decoder(tied=tied), INPUTS, several=False)


@each_kind
@tied_or_not
def test_trainable_tokens_go_to_plain_peft_and_back(
    make_config: Callable[[], peft.PeftConfig], tied: bool, tmp_path: Path
) -> None:
    check_format(lambda: make_decoder(tied=tied), make_config, tmp_path)


def test_only_the_trained_tokens_change_and_a_tied_head_follows() -> None:
    model = Swift.prepare_model(make_decoder(), peft.TrainableTokensConfig(token_indices=[3, 5]))
    before = make_decoder().get_input_embeddings().weight.detach()  # type: ignore[operator]  # a transformers model
    disturb(model)
    merged = model.merge_and_unload()
    embedding, head = merged.get_input_embeddings(), merged.get_output_embeddings()  # type: ignore[operator]  # as above
    changed = (embedding.weight != before).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == [3, 5]
    assert head.weight is embedding.weight
    assert merged.config.tie_word_embeddings is True  # type: ignore[union-attr]  # as above


@each_kind
@tied_or_not
def test_a_tuner_without_tokens_beside_one_with_them_is_saved_as_if_alone(
    make_config: Callable[[], peft.PeftConfig], tied: bool, tmp_path: Path
) -> None:
    configs = {"tokens": make_config(), "plain": LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"])}
    if isinstance(configs["tokens"], LoraConfig):
        configs["plain"] = LoraConfig(r=2, target_modules=["q_proj"])
    model = Swift.prepare_model(make_decoder(tied=tied), configs)
    disturb(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(answer(Swift.from_pretrained(make_decoder(tied=tied), tmp_path), INPUTS), answer(model, INPUTS))
    for name in configs:
        model.set_active_tuners(name)
        theirs = peft.PeftModel.from_pretrained(make_decoder(tied=tied), tmp_path / name)
        assert torch.equal(answer(theirs, INPUTS), answer(model, INPUTS))


@each_kind
@tied_or_not
def test_two_tuners_of_the_same_tokens_take_turns(make_config: Callable[[], peft.PeftConfig], tied: bool) -> None:
    host = make_decoder(tied=tied)
    plain, modules = answer(host, INPUTS), dict(host.named_modules())
    model = Swift.prepare_model(host, {"first": make_config()})
    disturb(model)
    first = answer(model, INPUTS)
    with pytest.raises(UnsupportedConfig, match="same tokens"):
        Swift.prepare_model(model, {"second": make_config()})
    assert torch.equal(answer(model, INPUTS), first)
    model.deactivate()
    Swift.prepare_model(model, {"second": make_config()})
    disturb(model, scale=0.1)
    second = answer(model, INPUTS)
    with pytest.raises(UnsupportedConfig, match="same tokens"):
        model.activate("first")
    assert torch.equal(answer(model, INPUTS), second)
    model.set_active_tuners("first")
    assert torch.equal(answer(model, INPUTS), first)
    model.detach("first")
    model.activate("second")
    assert torch.equal(answer(model, INPUTS), second)
    model.unload()
    assert dict(host.named_modules()) == modules
    assert torch.equal(answer(host, INPUTS), plain)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(target_modules=["q_proj"], trainable_token_indices=[3, 64]), "token 64 .* vocabulary of 64"),
        (LoraConfig(target_modules=["q_proj"], trainable_token_indices=[-1]), "token -1"),
        (peft.TrainableTokensConfig(token_indices=[70]), "token 70"),
        (peft.TrainableTokensConfig(token_indices=[]), "expected a list of token ids"),
        (LoraConfig(target_modules=["q_proj"], trainable_token_indices={"embed": [3]}), "embed_tokens"),
    ],
)
def test_tokens_that_are_none_are_refused(config: peft.PeftConfig, message: str) -> None:
    host = make_decoder()
    with pytest.raises((UnsupportedConfig, TargetNotFound), match=message):
        Swift.prepare_model(host, config)
    assert not hasattr(host, "peft_config")


def test_tokens_of_a_model_that_does_not_say_which_its_embedding_is_need_a_name() -> None:
    with pytest.raises(UnsupportedConfig, match="does not say which it is"):
        Swift.prepare_model(toy_mlp(), LoraConfig(target_modules=["up"], trainable_token_indices=[1]))


def make_qwen_moe() -> nn.Module:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
    )
    model = Qwen3MoeForCausalLM(config)
    model.eval()
    return model


def make_mixtral() -> nn.Module:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    model = MixtralForCausalLM(config)
    model.eval()
    return model


EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
each_moe = pytest.mark.parametrize("make_model", [make_qwen_moe, make_mixtral], ids=["qwen3", "mixtral"])


def make_expert_config() -> peft.PeftConfig:
    return LoraConfig(r=2, target_modules="all-linear", target_parameters=EXPERTS)


@pytest.mark.slow
@each_moe
def test_experts_weights_keep_the_laws(make_model: Callable[[], nn.Module]) -> None:
    check_tuner(make_expert_config, make_model, INPUTS)


@each_moe
def test_experts_weights_go_to_plain_peft_and_back(make_model: Callable[[], nn.Module], tmp_path: Path) -> None:
    check_format(make_model, make_expert_config, tmp_path)


def test_experts_weights_are_the_hosts_again_or_merged_into_it() -> None:
    host = make_qwen_moe()
    plain, parameters, order = answer(host, INPUTS), list(host.parameters()), list(host.state_dict())
    model = Swift.prepare_model(host, make_expert_config())
    disturb(model)
    model.deactivate()
    assert torch.equal(answer(model, INPUTS), plain)
    model.unload()
    assert torch.equal(answer(host, INPUTS), plain)
    assert list(host.state_dict()) == order
    assert all(now is before for now, before in zip(host.parameters(), parameters, strict=True))
    model = Swift.prepare_model(host, make_expert_config())
    disturb(model)
    on = answer(model, INPUTS)
    # Folding rounds each weight once, in float32.
    assert (answer(model.merge_and_unload(), INPUTS) - on).abs().max() < 1e-5
    assert list(host.state_dict()) == order


def test_every_experts_weight_trains() -> None:
    model = Swift.prepare_model(make_qwen_moe(), LoraConfig(r=2, target_modules=[], target_parameters=EXPERTS))
    # Two layers, two parameters in each, A and B for each of them.
    assert len(model.tuners["default"].parameters()) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        (
            LoraConfig(r=2, target_modules="all-linear"),
            "give target_parameters=['experts.down_proj', 'experts.gate_up_proj']",
        ),
        (
            LoraConfig(r=2, target_modules="all-linear", target_parameters=["experts.down_proj"]),
            "give target_parameters=['experts.gate_up_proj']",
        ),
        (peft.LoHaConfig(r=2, target_modules="all-linear"), "LoHaConfig has no target_parameters"),
    ],
    ids=["lora", "half of them", "no such option"],
)
def test_a_method_that_misses_the_experts_says_so_once(
    config: peft.PeftConfig, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="swift_tuners"):
        Swift.prepare_model(make_qwen_moe(), config)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("swift_tuners")]
    assert len(messages) == 1
    assert advice in messages[0]
    assert "model.layers.0.mlp.experts.gate_up_proj" in messages[0]


def test_a_method_that_reaches_the_experts_or_meets_none_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="swift_tuners"):
        Swift.prepare_model(make_qwen_moe(), make_expert_config())
        Swift.prepare_model(make_decoder(), LoraConfig(r=2, target_modules="all-linear"))
    assert not [record for record in caplog.records if record.name.startswith("swift_tuners")]


def test_a_parameter_that_is_none_is_refused() -> None:
    with pytest.raises(TargetNotFound, match=r"experts\.gate_up_porj"):
        Swift.prepare_model(make_qwen_moe(), LoraConfig(target_modules=[], target_parameters=["experts.gate_up_porj"]))


def test_layers_of_attention_that_peft_takes_apart_are_the_hosts_again() -> None:
    host = nn.Sequential(nn.MultiheadAttention(8, num_heads=2))
    parameters, order = list(host.parameters()), list(host.state_dict())
    model = Swift.prepare_model(host, LoraConfig(r=2, target_modules=["0"]))
    query = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0))
    disturb(model)
    model.host.get_submodule("0")(query, query, query)
    model.unload()
    assert list(host.state_dict()) == order
    assert all(now is before for now, before in zip(host.parameters(), parameters, strict=True))
