"""Checkpoints in PEFT's own format: what we save plain PEFT loads, what PEFT saves we load, with equal logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import peft
import pytest
import torch
from safetensors.torch import load_file
from swift_tuners import LoraConfig, Swift, SwiftConfig
from swift_tuners.errors import CheckpointMismatch
from swift_tuners.peft_tuner import PeftTuner
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs
from transformers import PreTrainedModel

CONFIGS: dict[str, Callable[[], peft.PeftConfig]] = {
    "lora": lambda: LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    "without task": lambda: LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    "dora": lambda: LoraConfig(r=4, target_modules="all-linear", use_dora=True),
    "modules to save": lambda: LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "head": lambda: LoraConfig(r=4, target_modules=["lm_head", "embed_tokens"]),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}
each_config = pytest.mark.parametrize("name", CONFIGS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def make_decoder(dtype: torch.dtype) -> PreTrainedModel:
    model = tiny_decoder(tie_word_embeddings=False, dtype=dtype)
    model.eval()
    return model


@each_config
@each_dtype
def test_plain_peft_gives_the_logits_of_what_we_saved(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = Swift.prepare_model(make_decoder(dtype), CONFIGS[name]())
    disturb(model)
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(make_decoder(dtype), tmp_path)
    assert torch.equal(answer(theirs, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))


@each_config
@each_dtype
def test_we_give_the_logits_of_what_plain_peft_saved(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peft.get_peft_model(make_decoder(dtype), CONFIGS[name]())
    generator = torch.Generator().manual_seed(3)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    theirs.eval().save_pretrained(str(tmp_path))
    model = Swift.from_pretrained(make_decoder(dtype), tmp_path)
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(theirs, tiny_decoder_inputs()))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_model_that_transformers_does_not_know_goes_to_peft_and_back(tmp_path: Path) -> None:
    model = Swift.prepare_model(toy_mlp().eval(), LoraConfig(r=2, target_modules="all-linear", bias="all"))
    disturb(model)
    model.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(toy_mlp().eval(), tmp_path)
    assert torch.equal(answer(theirs, toy_mlp_inputs()), answer(model, toy_mlp_inputs()))


def test_several_adapters_lie_where_peft_puts_them(tmp_path: Path) -> None:
    configs = {"default": LoraConfig(r=2, target_modules=["q_proj"]), "second": CONFIGS["ia3"]()}
    model = Swift.prepare_model(make_decoder(torch.float32), configs)
    disturb(model)
    written = model.save_pretrained(tmp_path)
    assert [(entry.name, entry.kind, entry.folder) for entry in written.tuners] == [
        ("default", "lora", "."),
        ("second", "ia3", "second"),
    ]
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "second/adapter_config.json",
        "second/adapter_model.safetensors",
        "swift.json",
    }
    for name, folder in [("default", tmp_path), ("second", tmp_path / "second")]:
        model.set_active_tuners(name)
        theirs = peft.PeftModel.from_pretrained(make_decoder(torch.float32), folder)
        assert torch.equal(answer(theirs, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))


def test_two_methods_on_one_layer_are_saved_as_each_alone_would_be(tmp_path: Path) -> None:
    outer = peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[])
    configs = {"inner": LoraConfig(r=2, target_modules=["q_proj"]), "outer": outer}
    model = Swift.prepare_model(make_decoder(torch.float32), configs)
    disturb(model)
    model.save_pretrained(tmp_path)
    for name in configs:
        model.set_active_tuners(name)
        theirs = peft.PeftModel.from_pretrained(make_decoder(torch.float32), tmp_path / name)
        assert torch.equal(answer(theirs, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))
    model.set_active_tuners(configs)
    reloaded = Swift.from_pretrained(make_decoder(torch.float32), tmp_path)
    assert torch.equal(answer(reloaded, tiny_decoder_inputs()), answer(model, tiny_decoder_inputs()))


def test_adapters_that_peft_saved_side_by_side_are_found(tmp_path: Path) -> None:
    theirs = peft.get_peft_model(make_decoder(torch.float32), LoraConfig(r=2, target_modules=["q_proj"]))
    theirs.add_adapter("poems", LoraConfig(r=4, target_modules=["v_proj"]))
    theirs.save_pretrained(str(tmp_path))
    assert list(Swift.from_pretrained(make_decoder(torch.float32), tmp_path).tuners) == ["default", "poems"]
    renamed = Swift.from_pretrained(make_decoder(torch.float32), tmp_path, {"poems": "verses"})
    assert list(renamed.tuners) == ["verses"]


def test_the_config_names_the_base_and_the_same_model_writes_the_same_bytes(tmp_path: Path) -> None:
    base = make_decoder(torch.float32)
    base.name_or_path = "some/model"
    model = Swift.prepare_model(base, CONFIGS["lora"]())
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "two")
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    names = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["base_model_name_or_path"] == SwiftConfig.read(tmp_path / "one").base_model == "some/model"
    assert (config["peft_type"], config["task_type"], config["inference_mode"]) == ("LORA", "CAUSAL_LM", True)
    assert {target.rpartition(".")[2] for target in config["target_modules"]} == set(names)
    assert config["target_modules"] == sorted(config["target_modules"])
    keys = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert len(keys) == 2 * 2 * len(names)
    assert all(key.startswith("base_model.model.model.layers.") for key in keys)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_checkpoint_trains_on(tmp_path: Path) -> None:
    first = Swift.prepare_model(make_decoder(torch.float32), CONFIGS["lora"]())
    disturb(first)
    first.save_pretrained(str(tmp_path))
    model = Swift.from_pretrained(make_decoder(torch.float32), tmp_path, trainable=True)
    assert model.count_parameters().trainable == first.count_parameters().trainable
    # Training goes on with the same dropout and scale, and a saved copy is again one for answering.
    model.save_pretrained(tmp_path / "later")
    assert json.loads((tmp_path / "later" / "adapter_config.json").read_text())["inference_mode"] is True


def test_a_checkpoint_saved_while_its_tuner_is_off_holds_the_tuned_weights(tmp_path: Path) -> None:
    model = Swift.prepare_model(toy_mlp().eval(), LoraConfig(r=2, target_modules=["up"], bias="all"))
    disturb(model)
    on = answer(model, toy_mlp_inputs())
    model.deactivate()
    model.save_pretrained(tmp_path)
    assert torch.equal(answer(Swift.from_pretrained(toy_mlp().eval(), tmp_path), toy_mlp_inputs()), on)
    # Loading into a tuner that is off must not touch the host's own biases either.
    model.tuners["default"].load(tmp_path)
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp().eval(), toy_mlp_inputs()))


def test_tensors_that_peft_has_no_place_for_are_refused() -> None:
    model = Swift.prepare_model(toy_mlp().eval(), LoraConfig(r=2, target_modules=["up"]))
    injection = cast("PeftTuner", model.tuners["default"]).injection
    state = injection.state()
    name, tensor = next(iter(state.items()))
    with pytest.raises(CheckpointMismatch, match=r"holds .*surplus.*, for which PEFT finds no place"):
        injection.load_state({**state, name.replace("up", "surplus"): tensor})
    with pytest.raises(CheckpointMismatch, match=f"lacks '{name}'"):
        injection.load_state({key: each for key, each in state.items() if key != name})
    # The same through the tuner, whose own check comes first.
    tuner = model.tuners["default"]
    with pytest.raises(CheckpointMismatch, match="no place for surplus"):
        tuner.load_state({**tuner.state(), "surplus.lora_A.weight": tensor})
