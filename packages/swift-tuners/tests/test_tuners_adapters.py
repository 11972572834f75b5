"""Houlsby's adapters: the formula, on decoders, vision transformers and convolutions; and that they learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from swift_tuners import Swift
from swift_tuners.errors import CannotMerge, TargetNotFound, UnsupportedConfig
from swift_tuners.testing import (
    answer,
    check_tuner,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    toy_conv,
    toy_conv_inputs,
    toy_mlp,
    toy_mlp_inputs,
)
from swift_tuners.tuners.adapters import AdapterConfig
from torch import Tensor, nn


class TorchViT(nn.Module):
    """A vision transformer of torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.blocks = nn.ModuleList(
            [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)]
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 4)."""
        hidden = self.patches(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.head(self.norm(hidden).mean(dim=1))
        return out


def make_vit() -> TorchViT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Frozen, as a tuner freezes it: torch takes other kernels for weights without gradients.
        return TorchViT().requires_grad_(False)


def vit_inputs() -> dict[str, Tensor]:
    return {"image": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def test_it_keeps_the_laws_on_a_decoder() -> None:
    check_tuner(lambda: AdapterConfig(adapter_length=8), tiny_decoder, tiny_decoder_inputs())


def test_it_keeps_the_laws_on_a_vision_transformer_of_torch() -> None:
    check_tuner(lambda: AdapterConfig(adapter_length=8), make_vit, vit_inputs())


@pytest.mark.parametrize("target", ["stem", "conv", "proj", "head"])
def test_it_keeps_the_laws_behind_layers_of_a_conv_net(target: str) -> None:
    config = AdapterConfig(adapter_length=4, target_modules=[target])
    # Frozen, as a tuner freezes it: torch takes other kernels for weights without gradients.
    check_tuner(lambda: config, lambda: toy_conv().requires_grad_(False), toy_conv_inputs())


def test_it_keeps_the_laws_behind_layers_of_an_mlp() -> None:
    check_tuner(lambda: AdapterConfig(target_modules=["up", "down"]), toy_mlp, toy_mlp_inputs())


def test_a_decoder_gets_one_behind_attention_and_one_behind_the_mlp_of_every_block() -> None:
    model = Swift.prepare_model(tiny_decoder(), {"a": AdapterConfig(adapter_length=8)})
    places = {name.rpartition(".swift_a.")[0] for name in model.tuners["a"].parameters()}
    assert places == {f"model.layers.{index}.{part}" for index in (0, 1) for part in ("self_attn", "mlp")}
    # down 32 x 8 + 8 and up 8 x 32 + 32, at four places
    assert model.count_parameters().trainable == 4 * (32 * 8 + 8 + 8 * 32 + 32)


def test_a_block_of_torch_gets_them_behind_its_attention_and_its_second_linear_layer() -> None:
    model = Swift.prepare_model(make_vit(), {"a": AdapterConfig()})
    places = {name.rpartition(".swift_a.")[0] for name in model.tuners["a"].parameters()}
    assert places == {f"blocks.{index}.{part}" for index in (0, 1) for part in ("self_attn", "linear2")}


@pytest.mark.parametrize("act", ["gelu", "relu", "silu", "identity"])
def test_the_output_of_a_module_becomes_x_plus_up_act_down_x(act: str) -> None:
    model = Swift.prepare_model(
        toy_mlp().eval(),
        AdapterConfig(target_modules=["up"], act_layer=act, adapter_length=3),  # type: ignore[arg-type]  # one of its literals
    )
    disturb(model)
    host: Any = model.host
    x = toy_mlp_inputs()["x"]
    down, _, up = host.up.swift_default.children()
    hidden = x @ host.up.weight.T + host.up.bias
    middle = hidden @ down.weight.T + down.bias
    functions = {
        "gelu": lambda z: 0.5 * z * (1 + torch.erf(z / 2**0.5)),
        "relu": lambda z: z.clamp_min(0),
        "silu": lambda z: z / (1 + torch.exp(-z)),
        "identity": lambda z: z,
    }
    hidden = hidden + functions[act](middle) @ up.weight.T + up.bias
    expected = host.down(host.act(hidden))
    assert torch.allclose(answer(model, toy_mlp_inputs()), expected, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = Swift.prepare_model(tiny_decoder(), AdapterConfig(adapter_length=4))
        disturb_seeded(model)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model.train()
        model(**tiny_decoder_inputs()).logits.square().mean().backward()
        found.append([each.grad for each in model.tuners["default"].parameters().values()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def disturb_seeded(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = Swift.prepare_model(tiny_decoder(), AdapterConfig(adapter_length=8)).train()
    inputs = tiny_decoder_inputs()
    optimizer = torch.optim.Adam(model.tuners["default"].parameters().values(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # The tied head of random weights and the frozen norm bound the logits, and so the loss from below.
    assert losses[-1] < losses[0] - 0.1


def test_it_cannot_be_merged_and_says_so() -> None:
    model = Swift.prepare_model(tiny_decoder(), AdapterConfig())
    with pytest.raises(CannotMerge, match=r"tuner 'default' \(adapters\) cannot be folded"):
        Swift.merge(model)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (AdapterConfig(), UnsupportedConfig, "ToyMLP has no blocks .* in target_modules"),
        (AdapterConfig(target_modules=["upp"]), TargetNotFound, "did you mean 'up'"),
        (AdapterConfig(target_modules=["act"]), UnsupportedConfig, "'act' .* holds no linear or convolutional layer"),
        (AdapterConfig(target_modules=["up"], adapter_length=0), UnsupportedConfig, "adapter_length is 0"),
    ],
    ids=["no blocks", "no such module", "no width", "no length"],
)
def test_what_does_not_fit_is_refused(config: AdapterConfig, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Swift.prepare_model(toy_mlp(), config)
