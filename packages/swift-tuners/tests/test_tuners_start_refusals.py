"""Starts of LoRA that cannot be made from the data or the base weights that there are say why, and change nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import tiny_decoder
from torch import Tensor, nn


def start(name: str) -> LoraConfig:
    config: dict[str, Any] = {"init_lora_weights": name}
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", **config)


def same_tensors(one: nn.Module, other: nn.Module) -> bool:
    first: dict[str, Tensor] = one.state_dict()
    second = other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


IDS = torch.randint(3, 64, (1, 40), generator=torch.Generator().manual_seed(5))
CALIBRATIONS: dict[str, tuple[Any, str]] = {
    "a tensor": (IDS, r"calibration\[0\] is a Tensor; expected the arguments of one forward by name"),
    "no names": ({3: IDS}, r"calibration\[0\] is a dict; expected the arguments"),
    "an id outside": ({"input_ids": IDS + 61}, r"hold [0-9]+, outside the model's vocabulary of 64"),
    "a negative id": ({"input_ids": -IDS}, "outside the model's vocabulary of 64"),
    "a list": ({"input_ids": IDS.tolist()}, "expected a tensor of token ids"),
    "floats": ({"input_ids": IDS.float()}, "expected a tensor of token ids"),
    "nothing": ({"input_ids": IDS[:, :0]}, "expected a tensor of token ids"),
    "one dimension": ({"input_ids": IDS[0]}, "LlamaForCausalLM cannot be called with a calibration batch"),
    "an unknown argument": ({"words": IDS}, "cannot be called with a calibration batch"),
    "another mask": (
        {"input_ids": IDS, "attention_mask": torch.ones(1, 7, dtype=torch.long)},
        r"attention_mask of calibration\[0\] has another shape than its input_ids, \(1, 40\)",
    ),
    "other labels": ({"input_ids": IDS, "labels": IDS[:, 1:]}, "another shape than its input_ids"),
}


@pytest.mark.parametrize("name", ["eva", "corda"])
@pytest.mark.parametrize(("batch", "message"), CALIBRATIONS.values(), ids=CALIBRATIONS.keys())
def test_calibration_of_another_form_is_refused_and_the_host_is_as_before(
    name: str, batch: object, message: str
) -> None:
    if name == "corda":
        pytest.importorskip("attrs")
    host = tiny_decoder()
    hooks = [module._forward_hooks.copy() for module in host.modules()]
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, start(name), calibration=cast("Any", [batch]))
    assert same_tensors(host, tiny_decoder())
    assert not any(module._forward_pre_hooks for module in host.modules())
    assert [module._forward_hooks.copy() for module in host.modules()] == hooks


@pytest.mark.parametrize("name", ["pissa", "olora", "loftq"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_quantized_with_torchao_is_refused_by_starts_that_rewrite_it(name: str, bits: int) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    if name == "loftq":
        pytest.importorskip("scipy")
    host = nn.ModuleDict({"up": nn.Linear(128, 128)})
    config = {4: "Int4WeightOnlyConfig", 8: "Int8WeightOnlyConfig"}[bits]
    try:
        torchao.quantize_(host.bfloat16(), getattr(torchao, config)())
    except (ImportError, RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torchao has no {bits} bits here: {error}")
    weight = cast("Any", host["up"]).weight
    with pytest.raises(UnsupportedConfig, match=r"'up': its weight is quantized with torchao; load the base unquant"):
        Swift.prepare_model(host, start(name))
    assert cast("Any", host["up"]).weight is weight


def test_a_weight_that_is_computed_from_others_is_refused_by_starts_that_rewrite_it() -> None:
    host = nn.ModuleDict({"up": nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))})
    with pytest.raises(UnsupportedConfig, match="'up': its weight is computed from others"):
        Swift.prepare_model(host, start("pissa"))
