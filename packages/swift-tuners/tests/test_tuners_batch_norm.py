"""Norms with running statistics: they rest while nobody trains them, and belong to the tuner that does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from swift_tuners import FullConfig, LISAConfig, LLaMAProConfig, LoraConfig, Swift, SwiftModel, TunerConfig
from swift_tuners.testing import answer, toy_conv, toy_conv_inputs
from torch import nn

NORM = "blocks.0.batch_norm"


def norm_of(model: SwiftModel) -> nn.BatchNorm2d:
    found = model.host.get_submodule(NORM)
    assert isinstance(found, nn.BatchNorm2d)
    return found


def step(model: SwiftModel) -> None:
    """Train one step, on inputs whose statistics are not those of the norms."""
    model.train()
    model(3 + 5 * toy_conv_inputs()["image"]).square().mean().backward()
    torch.optim.SGD([dict(group) for group in model.param_groups(0.1)]).step()
    model.eval()


@pytest.mark.parametrize("training", [True, False], ids=["a host in training", "a host in evaluation"])
def test_a_frozen_norm_keeps_its_statistics_and_its_mode(training: bool) -> None:
    host = toy_conv().train(training)
    plain = copy.deepcopy(host.state_dict())
    model = Swift.prepare_model(host, LoraConfig(r=2, target_modules=["proj"]))
    assert not norm_of(model).training
    assert host.training is training
    step(model)
    assert all(torch.equal(plain[name], value) for name, value in model.unload().state_dict().items())
    model = Swift.prepare_model(host.train(training), LoraConfig(r=2, target_modules=["proj"]))
    assert all(module.training is training for module in model.unload().modules())


def test_a_norm_that_was_in_evaluation_before_stays_there() -> None:
    host = toy_conv().train()
    host.get_submodule(NORM).eval()
    assert Swift.prepare_model(host, LoraConfig(r=2, target_modules=["proj"])).unload() is host
    assert not host.get_submodule(NORM).training
    assert host.get_submodule("blocks.1.batch_norm").training


def test_a_norm_trains_exactly_while_its_tuner_does() -> None:
    model = Swift.prepare_model(toy_conv(), FullConfig()).train()
    modes = []
    for change in (
        lambda: model.set_trainable("default", False),
        lambda: model.set_trainable("default", True),
        lambda: model.deactivate(),
        lambda: model.eval().activate("default"),
        lambda: model.train(),
    ):
        change()
        modes.append(norm_of(model).training)
    assert modes == [False, True, False, False, True]
    twin = copy.deepcopy(model)
    twin.deactivate()
    assert [norm_of(each).training for each in (model, twin)] == [True, False]


CONFIGS: dict[str, TunerConfig] = {
    "full": FullConfig(),
    "part of it": FullConfig(freeze_parameters=["stem", "head", "blocks.1"]),
    "lisa": LISAConfig(activated_layers=1),
    "llamapro": LLaMAProConfig(num_new_blocks=1),
    "a module in full": LoraConfig(r=2, target_modules=["proj"], modules_to_save=["batch_norm"]),
    "biases only": LoraConfig(r=2, target_modules=["proj"], bias="all"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_statistics_are_saved_switched_and_taken_off_with_their_tuner(config: TunerConfig, tmp_path: Path) -> None:
    # As it is under tuners: torch chooses other kernels for weights that need gradients.
    inputs, host = toy_conv_inputs(), toy_conv().eval().requires_grad_(False)
    plain, before = answer(host, inputs), copy.deepcopy(host.state_dict())
    model = Swift.prepare_model(host, copy.deepcopy(config))
    step(model)
    trained = answer(model, inputs)
    model.save_pretrained(tmp_path)
    loaded = Swift.from_pretrained(toy_conv().eval(), tmp_path)
    model.set_trainable("default", False)
    assert torch.equal(answer(loaded, inputs), answer(model, inputs))
    model.deactivate()
    assert torch.equal(answer(model, inputs), plain)
    model.activate("default")
    torch.testing.assert_close(answer(model, inputs), trained)
    assert all(torch.equal(before[name], value) for name, value in model.unload().state_dict().items())


def test_the_statistics_of_a_trained_norm_change_as_without_tuners() -> None:
    host, image = toy_conv().train(), 3 + 5 * toy_conv_inputs()["image"]
    host(image)
    expected = host.get_submodule(NORM).get_buffer("running_mean")
    model = Swift.prepare_model(toy_conv(), FullConfig()).train()
    model(image)
    assert torch.equal(norm_of(model).get_buffer("running_mean"), expected)
    assert f"{NORM}.running_mean" in model.tuners["default"].state()
