"""Which modules a tuner changes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import TargetNotFound, UnsupportedConfig
from swift_tuners.targets import find_targets
from swift_tuners.testing import tiny_decoder, toy_mlp
from torch import nn

PROJECTIONS = [
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
]
EVERY_LINEAR = [f"model.layers.{layer}.{name}" for layer in range(2) for name in PROJECTIONS]


class Tied(nn.Module):
    """A model without `get_output_embeddings` whose head is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.body = nn.Linear(3, 3)
        self.to_words = nn.Linear(3, 5, bias=False)
        self.to_words.weight = self.words.weight


@pytest.mark.parametrize(
    ("model", "targets", "expected"),
    [
        pytest.param(tiny_decoder(), "all-linear", EVERY_LINEAR, id="all-linear leaves out the head"),
        pytest.param(tiny_decoder(tie_word_embeddings=False), "all-linear", EVERY_LINEAR, id="also an untied one"),
        pytest.param(Tied(), "all-linear", ["body"], id="a head that only its tie betrays"),
        pytest.param(toy_mlp(), "all-linear", ["up", "down"], id="a model without a head"),
        pytest.param(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "all-linear", ["0"], id="numbers as names"),
        pytest.param(toy_mlp(), ["down"], ["down"], id="a name"),
        pytest.param(
            tiny_decoder(), ["1.mlp.up_proj", "lm_head"], ["model.layers.1.mlp.up_proj", "lm_head"], id="ends"
        ),
        pytest.param(tiny_decoder(), ["all-linear", "lm_head"], [*EVERY_LINEAR, "lm_head"], id="all-linear and a name"),
        pytest.param(tiny_decoder(), r".*\.1\..*q_proj", ["model.layers.1.self_attn.q_proj"], id="a pattern"),
    ],
)
def test_targets_are_found(model: nn.Module, targets: str | list[str], expected: list[str]) -> None:
    assert find_targets(model, targets) == expected


def test_targets_are_those_of_the_host_whatever_is_attached() -> None:
    model = tiny_decoder()
    before = find_targets(model, "all-linear")
    tuned = Swift.prepare_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["mlp"]))
    assert find_targets(tuned.host, "all-linear") == before


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (tiny_decoder(), ["q_prj"], "'q_prj' matches no module of the model; did you mean 'q_proj'"),
        (tiny_decoder(), ["attn.q_proj"], "'attn.q_proj' matches no module of the model; did you mean 'q_proj'"),
        (toy_mlp(), ["head"], "'head' matches no module of the model; known are: act, down, up"),
        (nn.Sequential(nn.Linear(2, 2)), ["1"], "known are: 0"),
        (
            nn.Sequential(nn.ReLU()),
            "all-linear",
            "finds no linear layer in the model, which is made of ReLU, Sequential",
        ),
    ],
)
def test_a_target_that_matches_nothing_is_told_the_nearest(model: nn.Module, targets: list[str], message: str) -> None:
    with pytest.raises(TargetNotFound, match=message):
        find_targets(model, targets)


PATTERNS: dict[str, tuple[dict[str, Any], str]] = {
    "rank": ({"rank_pattern": {"q_prj": 4}}, "rank_pattern has 'q_prj', which matches no target.*'q_proj'"),
    "rank of what is no target": (
        {"target_modules": ["q_proj"], "rank_pattern": {"v_proj": 4}},
        "rank_pattern has 'v_proj', which matches no target module; did you mean 'q_proj'",
    ),
    "alpha": ({"alpha_pattern": {"q_proj": 8, "layers.9.mlp.up_proj": 4}}, "alpha_pattern has 'layers.9.mlp.up_proj'"),
    "exclude": ({"exclude_modules": ["q_proj", "vprj"]}, "exclude_modules: target 'vprj' matches no.*'v_proj'"),
    "excluding pattern": ({"exclude_modules": r"layers\.9\..*"}, "exclude_modules: target .* matches no module"),
    "saved in full": ({"modules_to_save": ["lm_hed"]}, "modules_to_save: target 'lm_hed' matches no.*'lm_head'"),
    "layer": ({"layers_to_transform": [0, 9]}, "layers_to_transform has 9, and no target lies in a layer of this"),
    "layer of a list": (
        {"layers_to_transform": 1, "layers_pattern": "h"},
        "layers_to_transform has 1, and no target lies in a layer of this number below 'h'",
    ),
}


@pytest.mark.parametrize(("options", "message"), PATTERNS.values(), ids=PATTERNS.keys())
def test_an_option_that_matches_nothing_is_told(options: dict[str, Any], message: str) -> None:
    host = tiny_decoder()
    modules = dict(host.named_modules())
    with pytest.raises(TargetNotFound, match=message):
        Swift.prepare_model(host, LoraConfig(**{"target_modules": ["q_proj", "v_proj"], **options}))
    assert dict(host.named_modules()) == modules
    assert not hasattr(host, "peft_config")


def test_options_that_match_are_what_plain_peft_makes_of_them(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "rank_pattern": {r"layers\.0\..*q_proj": 2, "v_proj": 3},
        "alpha_pattern": {"o_proj": 4},
        "exclude_modules": r".*\.0\..*v_proj",
        "layers_to_transform": [0, 1],
        "layers_pattern": "layers",
    }
    targets = ["q_proj", "v_proj", "o_proj"]
    model = Swift.prepare_model(tiny_decoder(), LoraConfig(r=5, target_modules=targets, **options))
    model.save_pretrained(tmp_path)
    theirs = peft.get_peft_model(tiny_decoder(), LoraConfig(r=5, target_modules=targets, **options))
    expected = {
        name.removeprefix("base_model.model."): tuple(each.shape)
        for name, each in theirs.named_parameters()
        if "lora_" in name
    }
    assert {name: tuple(each.shape) for name, each in model.tuners["default"].parameters().items()} == expected
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert {name: saved[name] for name in options} == options


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(lora_alpha=math.nan, target_modules=["up"]), "lora_alpha of LoraConfig is nan"),  # type: ignore[arg-type]  # as said
        (LoraConfig(lora_alpha=math.inf, target_modules=["up"]), "lora_alpha of LoraConfig is inf"),  # type: ignore[arg-type]  # as said
        (LoraConfig(lora_dropout=math.nan, target_modules=["up"]), "lora_dropout of LoraConfig is nan"),
        (LoraConfig(alpha_pattern={"up": math.nan}, target_modules=["up"]), "alpha_pattern of LoraConfig is"),
        (LoraConfig(rank_pattern={"u(p": 2}, target_modules=["up"]), r"'u\(p', which is no regular expression"),
        (LoraConfig(rank_pattern=["up"], target_modules=["up"]), r"rank_pattern is \['up'\]; expected values by names"),  # type: ignore[arg-type]  # as said
        (peft.FourierFTConfig(n_frequency=4, scaling=math.nan, target_modules=["up"]), "scaling of FourierFTConfig"),
    ],
    ids=["nan", "infinite", "dropout", "in a pattern", "no expression", "no pattern", "another method"],
)
def test_numbers_that_are_none_and_patterns_that_are_none_are_refused(config: peft.PeftConfig, message: str) -> None:
    host = toy_mlp()
    modules = dict(host.named_modules())
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert dict(host.named_modules()) == modules
