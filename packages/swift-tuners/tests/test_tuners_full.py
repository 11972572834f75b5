"""Full and partial tuning: which weights train, at which rate, and the originals kept aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from swift_tuners import LoraConfig, Swift, SwiftModel
from swift_tuners.errors import TargetNotFound, UnsupportedConfig
from swift_tuners.testing import (
    answer,
    check_tuner,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    tiny_vlm,
    toy_mlp,
    toy_mlp_inputs,
)
from swift_tuners.tuners.full import FullConfig
from torch import nn

ALL = {"up.weight", "up.bias", "down.weight", "down.bias"}


def trained(config: FullConfig, host: nn.Module | None = None) -> set[str]:
    model = Swift.prepare_model(toy_mlp() if host is None else host, config)
    found = {name for name, each in model.host.named_parameters() if each.requires_grad}
    assert found == set(model.tuners["default"].parameters())
    return found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (FullConfig(), ALL),
        (FullConfig(freeze_parameters=["up"]), {"down.weight", "down.bias"}),
        (FullConfig(freeze_parameters=["up.bias", "down.bias"]), {"up.weight", "down.weight"}),
        (FullConfig(freeze_parameters_regex="bias$"), {"up.weight", "down.weight"}),
        # 8 x 16 + 16 + 16 x 4 + 4 = 212 numbers: the first 128 are 0.604 of them, the first 144 are 0.679.
        (FullConfig(freeze_parameters_ratio=0.6), ALL),
        (FullConfig(freeze_parameters_ratio=0.61), ALL - {"up.weight"}),
        (FullConfig(freeze_parameters_ratio=0.68), {"down.weight", "down.bias"}),
        (FullConfig(freeze_parameters=["up"], trainable_parameters=["up.bias"]), ALL - {"up.weight"}),
        (FullConfig(freeze_parameters_ratio=1, trainable_parameters_regex="down.*weight"), {"down.weight"}),
    ],
)
def test_names_and_shares_choose_what_trains(config: FullConfig, expected: set[str]) -> None:
    assert trained(config) == expected


def test_the_lower_part_of_a_decoder_is_frozen_from_its_input_on() -> None:
    names = trained(FullConfig(freeze_parameters=["model.embed_tokens", "model.layers.0"]), tiny_decoder())
    assert {name.split(".")[1] for name in names} == {"layers", "norm"}
    assert not any(name.startswith("model.layers.0") for name in names)


def test_a_beginning_ends_where_a_part_of_a_name_ends() -> None:
    # 'model.layers.1' of a longer model must not mean layer 10 too.
    host = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(11)])})
    frozen = {f"layers.{index}.weight" for index in range(11)} - trained(
        FullConfig(freeze_parameters=["layers.1"]), host
    )
    assert frozen == {"layers.1.weight"}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (FullConfig(), {"language"}),
        (FullConfig(freeze_vit=False), {"language", "vision"}),
        (FullConfig(freeze_llm=True, freeze_aligner=False), {"projector"}),
        (FullConfig(freeze_llm=True, trainable_parameters=["model.vision_tower"]), {"vision"}),
    ],
)
def test_sides_of_a_vision_language_model_are_frozen_apart(config: FullConfig, parts: set[str]) -> None:
    sides = {"vision_tower": "vision", "multi_modal_projector": "projector"}
    names = trained(config, tiny_vlm())
    assert {next((side for key, side in sides.items() if key in name), "language") for name in names} == parts


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (FullConfig(freeze_parameters=["upp"]), TargetNotFound, "did you mean 'up'"),
        (FullConfig(trainable_parameters_regex="("), TargetNotFound, "no regular expression"),
        (FullConfig(freeze_parameters_regex="layers"), TargetNotFound, "in no parameter's name"),
        (FullConfig(freeze_parameters_ratio=1.5), UnsupportedConfig, "expected 0 to 1"),
        (FullConfig(freeze_parameters_ratio=1), UnsupportedConfig, "leaves nothing"),
    ],
)
def test_options_without_effect_are_refused(config: FullConfig, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Swift.prepare_model(toy_mlp(), config)


class PackedLinear(nn.Module):
    """As quantizers have it: the weight is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 8
        self.register_buffer("qweight", torch.zeros(8, 8, dtype=torch.int32))


def test_quantized_weights_are_refused_unless_they_are_frozen() -> None:
    def host() -> nn.Module:
        return nn.ModuleDict({"packed": PackedLinear(), "plain": nn.Linear(8, 8)})

    with pytest.raises(UnsupportedConfig, match=r"packed\.weight', which is quantized"):
        Swift.prepare_model(host(), FullConfig())
    assert trained(FullConfig(freeze_parameters=["packed"]), host()) == {"plain.weight", "plain.bias"}


def step(model: SwiftModel) -> None:
    answered = model(**toy_mlp_inputs())
    answered.square().mean().backward()
    torch.optim.AdamW(list(model.host.parameters()), lr=0.1).step()


def test_without_a_copy_it_is_merged_and_not_taken_off() -> None:
    host = toy_mlp()
    model = Swift.prepare_model(host, FullConfig(restorable=False))
    step(model)
    after = answer(model, toy_mlp_inputs())
    for refused in (model.deactivate, model.unload):
        with pytest.raises(UnsupportedConfig, match="restorable=False kept no copy"):
            refused()
    assert torch.equal(answer(model, toy_mlp_inputs()), after)
    assert torch.equal(answer(model.merge_and_unload(), toy_mlp_inputs()), after)


def test_without_a_copy_it_comes_off_as_long_as_nothing_changed() -> None:
    host = toy_mlp()
    model = Swift.prepare_model(host, FullConfig(restorable=False))
    assert model.unload() is host


def test_only_what_trains_is_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = Swift.prepare_model(toy_mlp(), FullConfig(freeze_parameters=["up"]))
    disturb(model)
    # Also while it is off, and the host's own values are in the model.
    model.deactivate()
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "tuner_model.safetensors")
    assert saved.keys() == {"down.weight", "down.bias"}
    model.activate("default")
    assert torch.equal(saved["down.weight"], model.host.get_parameter("down.weight"))


def test_adapters_on_top_are_not_taken_for_the_hosts_own() -> None:
    host = toy_mlp()
    model = Swift.prepare_model(host, {"lora": LoraConfig(target_modules="all-linear", r=2), "full": FullConfig()})
    assert set(model.tuners["full"].state()) == ALL
    assert not set(model.tuners["full"].parameters()) & set(model.tuners["lora"].parameters())
    disturb(model)
    before = answer(model, toy_mlp_inputs())
    assert (answer(model.merge_and_unload(), toy_mlp_inputs()) - before).abs().max() < 1e-5


def test_a_partly_trained_decoder_keeps_the_laws() -> None:
    # A tied head trains with the embedding.
    check_tuner(
        lambda: FullConfig(trainable_parameters=["model.embed_tokens"], freeze_llm=True),
        tiny_decoder,
        tiny_decoder_inputs(),
        start_tolerance=0.0,
    )
