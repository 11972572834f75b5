"""Whole tuned models written by torch.save answer the same after torch.load, or say why they cannot."""

from __future__ import annotations

import io
from typing import Any

import peft
import pytest
import torch
from swift_tuners import TUNERS, LoraConfig, Swift, SwiftModel, TunerConfig
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import TOYS, answer, disturb, toy_mlp
from torch import Tensor, nn

NAMES = TUNERS.names()


def make_config(name: str) -> TunerConfig:
    args_class = TUNERS.load_class(name)
    return args_class(**args_class.laws.example).build_config()


def write_and_read(model: SwiftModel) -> SwiftModel:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, SwiftModel)
    return loaded


def check_round_trip(model: SwiftModel, inputs: dict[str, Tensor]) -> None:
    disturb(model)
    expected = answer(model, inputs)
    loaded = write_and_read(model)
    assert torch.equal(answer(loaded, inputs), expected)
    loaded.deactivate()
    model.deactivate()
    assert torch.equal(answer(loaded, inputs), answer(model, inputs))
    host = loaded.unload()
    assert torch.equal(answer(host, inputs), answer(model, inputs))
    assert not hasattr(host, "peft_config")


@pytest.mark.parametrize("name", NAMES)
def test_a_registered_tuner_goes_through_a_file(name: str) -> None:
    # The vision-language toy cannot itself: transformers hooks a local function into it at its first call.
    toy = next(each for each in ("mlp", "decoder", "conv") if each in TUNERS.load_class(name).laws.models)
    model = Swift.prepare_model(TOYS[toy].make_model().eval(), make_config(name))
    check_round_trip(model, TOYS[toy].make_inputs())


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=["up"], init_lora_weights="pissa"),
        LoraConfig(r=2, target_modules=["up"], bias="all"),
        LoraConfig(r=2, target_modules=["up"], modules_to_save=["down"], use_dora=True),
        peft.RandLoraConfig(r=2, randlora_alpha=2, target_modules=["up"]),
        peft.HRAConfig(r=2, target_modules=["up"]),
    ],
    ids=lambda config: type(config).__name__,
)
def test_other_configs_of_peft_go_through_a_file(config: peft.PeftConfig) -> None:
    check_round_trip(Swift.prepare_model(toy_mlp().eval(), config), TOYS["mlp"].make_inputs())


def test_a_loaded_model_trains_on() -> None:
    loaded = write_and_read(Swift.prepare_model(toy_mlp(), peft.AdaLoraConfig(target_modules=["up"], total_step=10)))
    loaded(**TOYS["mlp"].make_inputs()).sum().backward()
    loaded.on_step(1)
    assert all(each.grad is not None for each in loaded.tuners["default"].parameters().values())


def test_attention_of_torch_goes_through_a_file() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)

        def forward(self, x: Tensor) -> Any:  # noqa: ANN401  # as attention returns it
            return self.attention(x, x, x)[0]

    # pickle finds classes by name.
    globals()["Attention"], Attention.__qualname__ = Attention, "Attention"
    model = Swift.prepare_model(Attention().eval(), LoraConfig(r=2, target_modules=["attention"]))
    check_round_trip(model, {"x": torch.randn(2, 3, 8)})


def test_osf_says_that_its_hooks_would_be_lost() -> None:
    model = Swift.prepare_model(toy_mlp(), peft.OSFConfig(effective_rank=2, target_modules=["up"]))
    with pytest.raises(UnsupportedConfig, match="save the tuner with save_pretrained"):
        torch.save(model, io.BytesIO())
