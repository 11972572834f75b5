"""Options of PEFT's methods: their defaults, what PEFT's config gets of them, checkpoints that go to PEFT and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from swift_tuners import TUNERS, LoraConfig, Swift
from swift_tuners.errors import CannotMerge, TargetNotFound, UnsupportedConfig
from swift_tuners.peft_lora_plus import LoraPlusConfig
from swift_tuners.testing import (
    answer,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    tiny_vlm,
    toy_conv,
    toy_conv_inputs,
    toy_mlp,
    toy_mlp_inputs,
)
from swift_tuners.tuners.adalora import AdaLoraArgs
from swift_tuners.tuners.boft import BoftArgs
from swift_tuners.tuners.fourierft import FourierFtArgs
from swift_tuners.tuners.ia3 import Ia3Args
from swift_tuners.tuners.ln_tuning import LnTuningArgs
from swift_tuners.tuners.lora import LoraArgs
from swift_tuners.tuners.oft import OftArgs
from swift_tuners.tuners.p_tuning import PTuningArgs
from swift_tuners.tuners.prefix_tuning import PrefixTuningArgs
from swift_tuners.tuners.prompt_tuning import PromptTuningArgs
from swift_tuners.tuners.vera import VeraArgs
from transformers import PreTrainedModel

METHODS = (
    "adalora",
    "boft",
    "fourierft",
    "ia3",
    "ln_tuning",
    "loha",
    "lokr",
    "lora",
    "oft",
    "p_tuning",
    "prefix_tuning",
    "prompt_tuning",
    "vera",
)


def make_args(name: str) -> Any:  # noqa: ANN401  # any of the classes above
    args_class = TUNERS.load_class(name)
    return args_class(**args_class.laws.example)


def make_decoder() -> PreTrainedModel:
    model = tiny_decoder(tie_word_embeddings=False)
    model.eval()
    return model


@pytest.mark.parametrize("name", METHODS)
def test_the_name_of_a_method_is_the_kind_of_its_checkpoints(name: str, tmp_path: Path) -> None:
    model = Swift.prepare_model(make_decoder(), make_args(name).build_config())
    assert [entry.kind for entry in model.save_pretrained(tmp_path).tuners] == [name]


@pytest.mark.parametrize("name", METHODS)
def test_plain_peft_answers_alike_from_our_checkpoints(name: str, tmp_path: Path) -> None:
    model = Swift.prepare_model(make_decoder(), make_args(name).build_config())
    disturb(model)
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(make_decoder(), tmp_path)
    found = answer(theirs, tiny_decoder_inputs())
    # PEFT returns logits for the virtual tokens too, which are no tokens of the input.
    expected = answer(model, tiny_decoder_inputs())
    assert torch.equal(found[:, -expected.shape[1] :], expected)


@pytest.mark.parametrize("name", METHODS)
def test_we_answer_alike_from_checkpoints_of_plain_peft(name: str, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(make_decoder(), _in_peft_names(make_args(name).build_config()))
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
            parameter.data += 0.05 * noise
    theirs.eval().save_pretrained(str(tmp_path))
    model = Swift.from_pretrained(make_decoder(), tmp_path)
    found, expected = answer(model, tiny_decoder_inputs()), answer(theirs, tiny_decoder_inputs())
    assert torch.equal(found, expected[:, -found.shape[1] :])


def _in_peft_names(config: peft.PeftConfig) -> peft.PeftConfig:
    """Spell out what only our tuners find by themselves."""
    if isinstance(config, peft.LNTuningConfig):
        config.target_modules = ["input_layernorm", "post_attention_layernorm", "norm"]
    elif hasattr(config, "target_modules"):
        # PEFT's all-linear is a string, and takes a model's head for one of them without a transformers config.
        config.target_modules = "all-linear"
    return config


def test_defaults_are_those_that_users_know() -> None:
    assert (VeraArgs().build_config().r, BoftArgs().build_config().boft_block_size) == (256, 4)
    assert FourierFtArgs().build_config().n_frequency == 2000
    config = AdaLoraArgs().build_config()
    assert (config.target_r, config.init_r, config.lora_alpha) == (8, 12, 32)


@pytest.mark.parametrize("name", METHODS)
def test_a_class_of_options_has_at_most_25(name: str) -> None:
    assert len(dataclasses.fields(TUNERS.load_class(name))) <= 25


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("true", True),
        ("False", False),
        ("gaussian", "gaussian"),
        ("pissa", "pissa"),
        ("PiSSA_niter_16", "pissa_niter_16"),
        ("olora", "olora"),
        ("eva", "eva"),
        ("corda", "corda"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_lora_starts_as_its_option_says(given: str, expected: bool | str) -> None:
    config = LoraArgs(init_weights=given).build_config()
    assert isinstance(config, LoraConfig)
    assert config.init_lora_weights == expected


def test_loftq_is_asked_for_with_its_bits() -> None:
    pytest.importorskip("scipy", reason="PEFT's config asks for scipy")
    config = LoraArgs(init_weights="loftq", loftq_bits=8, loftq_iter=3).build_config()
    assert isinstance(config, LoraConfig)
    assert config.loftq_config == {"loftq_bits": 8, "loftq_iter": 3}


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="init_weights is 'pisa'; expected one of true, false, gaussian"):
        LoraArgs(init_weights="pisa").build_config()


def test_other_options_of_lora_reach_peft() -> None:
    args = LoraArgs(
        target_modules=["q_proj"],
        target_parameters=["experts.gate_up_proj"],
        trainable_token_indices=[3, 5],
        lorap_lr_ratio=16.0,
        use_dora=True,
    )
    config = args.build_config()
    assert isinstance(config, LoraPlusConfig)
    assert config.lr_ratio == 16.0
    lora = config.lora
    assert (lora.target_parameters, lora.trainable_token_indices) == (["experts.gate_up_proj"], [3, 5])
    assert lora.use_dora


def test_new_tokens_train_beside_the_layers_and_learn_with_the_rate_of_a() -> None:
    args = LoraArgs(target_modules=["q_proj"], trainable_token_indices=[3, 5], lorap_lr_ratio=4.0)
    model = Swift.prepare_model(make_decoder(), args.build_config())
    rates = {tuple(each.shape): group["lr"] for group in model.param_groups(1.0) for each in group["params"]}
    assert rates == {(8, 32): 1.0, (32, 8): 4.0, (2, 32): 1.0}


def test_the_paper_s_ia3_scales_keys_values_and_inner_activations() -> None:
    args = Ia3Args(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
    model = Swift.prepare_model(make_decoder(), args.build_config())
    shapes = {name.split(".")[-3]: tuple(each.shape) for name, each in model.tuners["default"].parameters().items()}
    # Keys and values are 16 wide, and the inner activations 64.
    assert shapes == {"k_proj": (16, 1), "v_proj": (16, 1), "down_proj": (1, 64)}


def test_a_schedule_without_room_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="total_step=10, tinit=6 and tfinal=4"):
        AdaLoraArgs(total_step=10, tinit=6, tfinal=4).build_config()


def test_norms_of_the_language_side_train_by_default_and_a_model_without_norms_is_refused() -> None:
    model = Swift.prepare_model(tiny_vlm(), LnTuningArgs().build_config())
    names = set(model.tuners["default"].parameters())
    assert names and all("language_model" in name and "norm" in name for name in names)
    with pytest.raises(TargetNotFound, match="has no norm to train; it is made of GELU, Linear, ToyMLP"):
        Swift.prepare_model(toy_mlp(), LnTuningArgs().build_config())
    named = Swift.prepare_model(make_decoder(), LnTuningArgs(target_modules=["input_layernorm"]).build_config())
    assert len(named.tuners["default"].parameters()) == 2


def test_oft_rotates_linear_layers_in_a_picture_whose_channels_are_last() -> None:
    model = Swift.prepare_model(toy_conv().eval(), OftArgs(block_size=4, target_modules=["proj"]).build_config())
    disturb(model)
    layer: Any = model.host.get_submodule("blocks.0.proj")
    rows = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack([layer(each) for each in rows.flatten(0, 2)]).view(2, 5, 3, 8)
        assert torch.allclose(layer(rows), expected, atol=1e-6)
    merged = answer(model, toy_conv_inputs())
    assert torch.allclose(answer(model.merge_and_unload(), toy_conv_inputs()), merged, atol=1e-5)


def test_two_rotations_of_one_layer_are_not_merged() -> None:
    configs = {name: OftArgs(block_size=4, target_modules=["up"]).build_config() for name in ("one", "two")}
    model = Swift.prepare_model(toy_mlp().eval(), configs)
    disturb(model)
    with pytest.raises(CannotMerge, match="'one' and 'two' both rotate the input of 'up'"):
        model.merge_and_unload()
    model.deactivate("two")
    expected = answer(model, toy_mlp_inputs())
    assert torch.allclose(answer(model.merge_and_unload(), toy_mlp_inputs()), expected, atol=1e-5)


def test_virtual_tokens_get_their_options() -> None:
    assert PromptTuningArgs(init_text="Say yes.", tokenizer_name_or_path="folder").build_config().prompt_tuning_init
    assert PromptTuningArgs().build_config().num_virtual_tokens == 20
    assert PrefixTuningArgs(projection=True, encoder_hidden_size=8).build_config().encoder_hidden_size == 8
    config = PTuningArgs(reparameterization="LSTM", encoder_num_layers=1).build_config()
    assert (config.encoder_reparameterization_type, config.encoder_num_layers) == ("LSTM", 1)
