"""LoRA by unsloth, as far as it goes without a GPU: what is missing, what is refused, what it leaves behind."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import MissingDependency, UnsupportedConfig
from swift_tuners.peft_unsloth import UnslothLoraConfig
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs
from swift_tuners.tuners.lora import LoraArgs
from torch import nn


def test_without_unsloth_it_is_a_missing_dependency() -> None:
    if "unsloth" in sys.modules:
        pytest.skip("unsloth is there")
    with pytest.raises(MissingDependency, match="needs the package unsloth and a GPU"):
        Swift.prepare_model(tiny_decoder(), UnslothLoraConfig(lora=LoraConfig(target_modules="all-linear")))


class StandIn:
    """A stand-in for unsloth's class: PEFT's own injection, and other forwards on modules, as unsloth sets them."""

    calls: list[dict[str, Any]]

    @classmethod
    def get_peft_model(cls, model: nn.Module, **options: Any) -> nn.Module:  # noqa: ANN401  # as unsloth's
        """Inject LoRA and return PEFT's wrapper."""
        cls.calls.append(dict(options))
        assert options.pop("use_gradient_checkpointing") is False
        torch.manual_seed(options.pop("random_state"))
        tuned = peft.get_peft_model(model, LoraConfig(**options, task_type="CAUSAL_LM"))
        for name, module in model.named_modules():
            if name.endswith(".mlp"):
                module.forward = types.MethodType(type(module).forward, module)
        return tuned


@pytest.fixture
def unsloth(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    StandIn.calls = []
    module = types.ModuleType("unsloth")
    module.FastLanguageModel = StandIn  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "unsloth", module)
    return StandIn


def loaded_by_unsloth() -> nn.Module:
    model: nn.Module = tiny_decoder().eval()
    model._saved_temp_tokenizer = None  # type: ignore[assignment]  # a plain attribute, which unsloth leaves
    return model


def test_its_lora_is_that_of_peft_and_comes_off_without_a_trace(unsloth: type[StandIn], tmp_path: Path) -> None:
    host = loaded_by_unsloth()
    config = UnslothLoraConfig(lora=LoraConfig(r=4, target_modules="all-linear"), seed=5)
    model = Swift.prepare_model(host, config)
    linear = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    (options,) = unsloth.calls
    assert (options["r"], options["random_state"], options["target_modules"]) == (4, 5, linear)
    disturb(model)
    tuned = answer(model, tiny_decoder_inputs())
    model.save_pretrained(tmp_path)
    # Plain PEFT reads it.
    plain = peft.PeftModel.from_pretrained(tiny_decoder().eval(), str(tmp_path))
    assert torch.equal(answer(plain, tiny_decoder_inputs()), tuned)
    assert any("forward" in vars(module) for module in host.modules())
    assert model.unload() is host
    assert not any("forward" in vars(module) for module in host.modules())
    assert torch.equal(answer(host, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


@pytest.mark.parametrize(
    ("options", "name", "host", "message"),
    [
        ({}, "other", loaded_by_unsloth, "unsloth knows one tuner, named 'default'"),
        ({}, "default", tiny_decoder, "this LlamaForCausalLM is none; load it with load_for_unsloth"),
        ({"use_dora": True}, "default", loaded_by_unsloth, "use_dora=True is no option of LoRA by unsloth"),
        ({"target_modules": ".*q_proj"}, "default", loaded_by_unsloth, "is no list of names"),
    ],
)
@pytest.mark.usefixtures("unsloth")
def test_what_unsloth_cannot_do_is_refused(options: dict[str, Any], name: str, host: Any, message: str) -> None:  # noqa: ANN401  # a function
    lora = LoraConfig(**{"target_modules": ["q_proj"], **options})
    model = host()
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(model, {name: UnslothLoraConfig(lora=lora)})
    assert not hasattr(model, "peft_config")


def test_the_backend_is_an_option_of_lora(unsloth: type[StandIn]) -> None:
    args = LoraArgs(backend="unsloth", rank=4, alpha=8, dropout=0, target_modules=["q_proj"], use_rslora=True)
    config = args.build_config()
    assert isinstance(config, UnslothLoraConfig)
    Swift.prepare_model(loaded_by_unsloth(), config)
    (options,) = unsloth.calls
    assert (options["r"], options["lora_alpha"], options["target_modules"]) == (4, 8, ["q_proj"])
    assert options["use_rslora"] is True
    assert isinstance(LoraArgs().build_config(), LoraConfig)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"lorap_lr_ratio": 16.0}, "lorap_lr_ratio=16.0"),
        ({"init_weights": "pissa"}, "init_weights='pissa'"),
        ({"target_regex": ".*q_proj"}, r"target_regex='.\*q_proj'"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, r"target_parameters=\[.*\]"),
        ({"trainable_token_indices": [1]}, r"trainable_token_indices=\[1\]"),
    ],
)
@pytest.mark.usefixtures("unsloth")
def test_options_that_unsloth_does_not_have_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedConfig, match=f"{named} is no option of LoRA by unsloth; use backend peft"):
        LoraArgs(backend="unsloth", **options).build_config()


def test_the_backend_says_what_is_missing_and_what_is_unknown() -> None:
    with pytest.raises(UnsupportedConfig, match="backend is 'liger'; expected peft or unsloth"):
        LoraArgs(backend=cast("Any", "liger")).build_config()
    if "unsloth" in sys.modules:
        pytest.skip("unsloth is there")
    with pytest.raises(MissingDependency, match="needs the package unsloth and a GPU"):
        LoraArgs(backend="unsloth").build_config()
