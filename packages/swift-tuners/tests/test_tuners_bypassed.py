"""Layers that are not called: what computes with their weights makes way for adapters, or the adapter is refused."""

from __future__ import annotations

import copy
import logging
from typing import Any, cast

import peft
import pytest
import torch
import torch.nn.functional as F
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.targets import all_linear
from swift_tuners.testing import disturb
from torch import Tensor, nn

ROWS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
# The second row ends early.
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def make_encoder(*, norm_first: bool = False) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()


@torch.no_grad()
def answer(model: nn.Module, **options: Tensor) -> Tensor:
    """Return the output outside training, where torch's encoder fuses if nothing keeps it from that."""
    given: Tensor = model.eval()(ROWS, **options)
    return given


CONFIGS = {
    "lora on linear1": LoraConfig(r=4, target_modules=["linear1"]),
    "lora on linear2": LoraConfig(r=4, target_modules=["linear2"]),
    "lora on attention": LoraConfig(r=4, target_modules=["self_attn"]),
    "ia3": peft.IA3Config(target_modules=["linear1", "linear2"], feedforward_modules=["linear2"]),
    "oft": peft.OFTConfig(target_modules=["linear1"], oft_block_size=4),
    "norms": peft.LNTuningConfig(target_modules=["norm1", "norm2"]),
    "in full": LoraConfig(r=4, target_modules=["linear2"], modules_to_save=["linear1"]),
}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_adapter_in_torchs_encoder_acts_outside_training_as_in_it(config: Any, norm_first: bool) -> None:  # noqa: ANN401  # any of PEFT's
    host = make_encoder(norm_first=norm_first)
    plain, padded = answer(host), answer(host, src_key_padding_mask=PADDING)
    model = Swift.prepare_model(host, config)
    disturb(model)
    tuned = answer(model)
    # In training the layers are called one by one, whatever the adapter is; there is no dropout here.
    with torch.no_grad():
        trained = model.train()(ROWS)
        trained_padded = model(ROWS, src_key_padding_mask=PADDING)
    torch.testing.assert_close(tuned, trained)
    assert not torch.allclose(tuned, plain, atol=1e-3)
    torch.testing.assert_close(answer(model, src_key_padding_mask=PADDING)[~PADDING], trained_padded[~PADDING])
    # Off, torch fuses again: bit for bit what the host gave.
    model.deactivate()
    assert torch.equal(answer(model), plain)
    assert torch.equal(answer(model, src_key_padding_mask=PADDING), padded)
    model.activate("default")
    assert torch.equal(answer(copy.deepcopy(model)), tuned)
    model.unload()
    assert torch.equal(answer(host), plain)
    assert [vars(module).keys() for module in host.modules()] == [
        vars(module).keys() for module in make_encoder(norm_first=norm_first).modules()
    ]
    merged = Swift.prepare_model(host, LoraConfig(r=4, target_modules=["linear1"]))
    assert "linear1" in {name.rpartition(".")[2] for name in all_linear(host)}
    merged.merge_and_unload()
    assert torch.equal(answer(host), plain)


def test_the_last_active_adapter_lets_an_encoder_fuse_again() -> None:
    host = make_encoder()
    plain = answer(host)
    configs = {name: LoraConfig(r=2, target_modules=["linear1"]) for name in ("first", "second")}
    model = Swift.prepare_model(host, cast("Any", configs))
    disturb(model)
    both = answer(model)
    model.deactivate("second")
    assert not torch.equal(answer(model), both)
    assert not torch.allclose(answer(model), plain, atol=1e-3)
    model.deactivate()
    assert torch.equal(answer(model), plain)


@pytest.mark.parametrize("targets", [["out_proj"], ["linear1", "out_proj"], r".*out_proj"])
def test_a_layer_that_is_never_called_is_refused(targets: Any) -> None:  # noqa: ANN401  # as PEFT takes them
    host = make_encoder()
    plain = answer(host)
    with pytest.raises(UnsupportedConfig, match=r"MultiheadAttention computes with the weight of 'layers.0.self_attn"):
        Swift.prepare_model(host, LoraConfig(target_modules=targets))
    assert not hasattr(host, "peft_config")
    assert torch.equal(answer(host), plain)


def test_an_adapter_of_others_on_a_layer_that_is_never_called_is_loaded_with_a_warning(
    tmp_path: Any,  # noqa: ANN401  # a path
    caplog: pytest.LogCaptureFixture,
) -> None:
    peft.get_peft_model(make_encoder(), LoraConfig(target_modules=["out_proj"])).save_pretrained(str(tmp_path))
    Swift.from_pretrained(make_encoder(), tmp_path)
    assert "never calls the layer, so that an adapter on it does nothing" in caplog.text


class Fused(nn.Module):
    """Reads a weight in one branch and calls the layer in the other, as Mamba does with and without its kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.fast = False

    def forward(self, rows: Tensor) -> Tensor:
        """Return the projection."""
        if self.fast:
            return F.linear(rows, self.project.weight, self.project.bias)
        projected: Tensor = self.project(rows)
        return projected


def test_a_layer_that_is_called_in_one_branch_only_is_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = Swift.prepare_model(nn.ModuleDict({"mixer": Fused()}), LoraConfig(target_modules=["project"]))
    assert "'mixer.project', whose weight Fused reads in a fused branch" in caplog.text
    assert len(model.tuners["default"].parameters()) == 2
