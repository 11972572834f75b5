"""Methods that train or copy the host's own weights refuse quantized ones, also those that call themselves floats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from swift_tuners import (
    FullConfig,
    LISAConfig,
    LLaMAProConfig,
    ModelArgs,
    QuantizationArgs,
    Swift,
    TunerConfig,
    load_model,
)
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.testing import answer, tiny_decoder, tiny_decoder_inputs
from torch import nn

pytest.importorskip("torchao")

CONFIGS: dict[str, tuple[TunerConfig, str]] = {
    "full": (FullConfig(), "would train 'model.layers.0.self_attn.q_proj.weight', whose type is .*: quantized weights"),
    "lisa": (LISAConfig(activated_layers=1), "would train 'model.layers.0.self_attn.q_proj.weight', whose type is .*"),
    "llamapro": (LLaMAProConfig(num_new_blocks=1), "'model.layers.1', whose 'self_attn.q_proj' is quantized"),
}


def load_quantized(folder: Path, bits: int) -> nn.Module:
    tiny_decoder().save_pretrained(folder)
    quantization = QuantizationArgs(quant_method="torchao", quant_bits=bits)
    return load_model(ModelArgs(model=str(folder), torch_dtype="float32"), quantization=quantization).model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("config", "message"), CONFIGS.values(), ids=CONFIGS)
def test_weights_of_torchao_are_refused(config: TunerConfig, message: str, bits: int, tmp_path: Path) -> None:
    host, inputs = load_quantized(tmp_path, bits), tiny_decoder_inputs()
    plain = answer(host, inputs)
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert torch.equal(answer(host, inputs), plain)


def test_what_is_not_quantized_trains_on_a_quantized_host(tmp_path: Path) -> None:
    config = FullConfig(freeze_parameters_regex="proj", freeze_parameters=["model.embed_tokens"])
    model = Swift.prepare_model(load_quantized(tmp_path, 8), config)
    # By hand: norms of 32 numbers, two in each of two layers and one behind them.
    assert model.count_parameters().trainable == 5 * 32
