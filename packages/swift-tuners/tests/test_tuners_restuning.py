"""Res-Tuning: the bypass and the tuners beside operations, on vision transformers and decoders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import peft
import pytest
import torch
from swift_tuners import Swift, SwiftModel
from swift_tuners.errors import CannotMerge, UnsupportedConfig
from swift_tuners.testing import (
    answer,
    check_tuner,
    disturb,
    tiny_decoder,
    tiny_decoder_inputs,
    toy_conv,
    toy_mlp,
)
from swift_tuners.tuners.restuning import ResTuningConfig
from torch import Tensor, nn

Operator = Literal["res_adapter", "res_prefix", "res_prompt"]
OPERATORS: list[Operator] = ["res_adapter", "res_prefix", "res_prompt"]


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


def torch_vit() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Frozen, as a tuner freezes it: torch takes other kernels for weights without gradients.
        return TorchViT().requires_grad_(False)


def torch_vit_inputs() -> dict[str, Tensor]:
    return {"image": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def transformers_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit: nn.Module = transformers.ViTModel(config, add_pooling_layer=False)
    vit.requires_grad_(False).eval()
    # transformers makes an attribute of its own at the first call.
    answer(vit, vit_inputs())
    return vit


def vit_inputs() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def make_model(config: ResTuningConfig, *, scale: float = 0.3) -> SwiftModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Swift.prepare_model(tiny_decoder().eval(), {"res": config})
    disturb(model, scale=scale)
    return model


@pytest.mark.parametrize(
    ("operator", "use_bypass"), [("res_adapter", True), ("res_prefix", True), ("res_prompt", False)]
)
def test_it_keeps_the_laws_on_a_decoder(operator: Operator, use_bypass: bool) -> None:
    config = ResTuningConfig(tuner_cfg=operator, use_bypass=use_bypass, adapter_length=4)
    check_tuner(lambda: config, tiny_decoder, tiny_decoder_inputs())


@pytest.mark.parametrize("use_bypass", [True, False], ids=["bypass", "beside"])
def test_it_keeps_the_laws_on_a_vision_transformer_of_transformers(use_bypass: bool) -> None:
    check_tuner(lambda: ResTuningConfig(use_bypass=use_bypass), transformers_vit, vit_inputs())


@pytest.mark.parametrize("use_bypass", [True, False], ids=["bypass", "beside"])
def test_it_keeps_the_laws_on_a_vision_transformer_of_torch(use_bypass: bool) -> None:
    check_tuner(lambda: ResTuningConfig(use_bypass=use_bypass), torch_vit, torch_vit_inputs())


def operate(branch: Any, x: Tensor) -> Tensor:  # noqa: ANN401  # layers and parameters by name
    """Return T(x), by hand."""
    if isinstance(branch, nn.Sequential):
        down, up = branch[0], branch[2]
        assert isinstance(down, nn.Linear) and isinstance(up, nn.Linear)
        hidden = x @ down.weight.T + down.bias
        adapted: Tensor = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5)) @ up.weight.T + up.bias
        return adapted
    keys = branch.prompt if hasattr(branch, "prompt") else branch.key_tokens
    values = branch.prompt if hasattr(branch, "prompt") else branch.value_tokens
    attended: Tensor = (x @ keys.T / x.shape[-1] ** 0.5).softmax(-1) @ values
    return attended * branch.scale if hasattr(branch, "scale") else attended


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_bypass_mixes_layers_and_itself_by_the_formula_of_the_paper(operator: Operator) -> None:
    model = make_model(ResTuningConfig(tuner_cfg=operator, adapter_length=4))
    host: Any = model.host.model
    caught: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        caught[name] = output.detach()

    handles = [host.layers[0].register_forward_pre_hook(lambda m, inputs: caught.__setitem__("x0", inputs[0].detach()))]
    handles += [host.layers[index].register_forward_hook(partial(keep, f"x{index + 1}")) for index in (0, 1)]
    handles.append(host.norm.register_forward_pre_hook(lambda m, inputs: caught.__setitem__("out", inputs[0].detach())))
    answer(model, tiny_decoder_inputs())
    for handle in handles:
        handle.remove()
    bypass = caught["x0"]
    for index, block in enumerate(host.norm.swift_res, start=1):
        share = 1 / (1 + torch.exp(-block["gate"]["weight"]))
        bypass = share * operate(block["lateral"], caught[f"x{index}"]) + (1 - share) * operate(
            block["vertical"], bypass
        )
    assert torch.allclose(caught["out"], caught["x2"] + bypass, atol=1e-5)
    assert bypass.abs().max() > 1e-2


@pytest.mark.parametrize("operator", OPERATORS)
def test_beside_an_operation_a_tuner_adds_what_it_makes_of_the_same_input(operator: Operator) -> None:
    model = make_model(ResTuningConfig(use_bypass=False, tuner_cfg=operator, adapter_length=4))
    host: Any = model.host
    mlp = host.model.layers[0].mlp
    caught: dict[str, Tensor] = {}
    handle = mlp.register_forward_hook(lambda m, inputs, output: caught.update(x=inputs[0], out=output))
    answer(model, tiny_decoder_inputs())
    handle.remove()
    plain = mlp.down_proj(mlp.act_fn(mlp.gate_proj(caught["x"])) * mlp.up_proj(caught["x"]))
    assert torch.allclose(caught["out"], plain + operate(mlp.swift_res, caught["x"]), atol=1e-5)
    places = {name.partition(".swift_res.")[0] for name in model.tuners["res"].parameters()}
    assert places == {f"model.layers.{index}.{part}" for index in (0, 1) for part in ("self_attn", "mlp")}


def test_no_gradient_of_a_bypass_enters_the_layers() -> None:
    model = make_model(ResTuningConfig())
    reached: list[bool] = []
    host: Any = model.host.model
    for layer in host.layers:
        layer.register_forward_hook(lambda module, inputs, output: reached.append(output.requires_grad))
    model(**tiny_decoder_inputs()).logits.square().mean().backward()
    assert reached == [False, False]
    assert all(each.grad is not None and bool(each.grad.any()) for each in model.tuners["res"].parameters().values())


def test_beside_a_bypass_lora_trains_as_it_would_without() -> None:
    lora = peft.LoraConfig(target_modules=["q_proj", "down_proj"])
    model = Swift.prepare_model(tiny_decoder().eval(), {"lora": lora, "res": ResTuningConfig()})
    alone = Swift.prepare_model(tiny_decoder().eval(), {"lora": lora})
    for name, weight in alone.tuners["lora"].state().items():
        weight.copy_(model.tuners["lora"].state()[name])
    for each in (model, alone):
        # An untrained bypass adds zero, so the gradients are equal.
        each(**tiny_decoder_inputs()).logits.square().mean().backward()
    pairs = zip(*(each.tuners["lora"].parameters().values() for each in (model, alone)), strict=True)
    for one, other in pairs:
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-7)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("use_bypass", [True, False], ids=["bypass", "beside"])
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(use_bypass: bool, use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = make_model(ResTuningConfig(use_bypass=use_bypass), scale=0.1)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model.train()
        for _ in range(2):
            model(**tiny_decoder_inputs()).logits.square().mean().backward()
        found.append([each.grad for each in model.tuners["res"].parameters().values()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("use_bypass", [True, False], ids=["bypass", "beside"])
def test_generation_with_a_cache_answers_as_without(use_bypass: bool) -> None:
    model = make_model(ResTuningConfig(use_bypass=use_bypass), scale=0.5)
    options = {"max_new_tokens": 5, "do_sample": False, **tiny_decoder_inputs()}
    cached, whole = (model.generate(use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)


def test_a_bypass_reads_and_joins_where_it_is_told() -> None:
    config = ResTuningConfig(stem_modules=["layers.0"], target_modules=["lm_head"])
    model = Swift.prepare_model(tiny_decoder().eval(), config)
    # The head sees the last token only, the bypass carries all.
    with pytest.raises(UnsupportedConfig, match=r"carries \(2, 7, 32\), but its target gets \(2, 1, 32\)"):
        model(**tiny_decoder_inputs(), logits_to_keep=1)
    config = ResTuningConfig(stem_modules=["blocks.0", "blocks.1"], target_modules=["norm"])
    with pytest.raises(UnsupportedConfig, match=r"name 5 modules .* a bypass joins at one"):
        Swift.prepare_model(torch_vit(), ResTuningConfig(target_modules=["norm1", "norm2", "norm"]))
    model = Swift.prepare_model(torch_vit().eval(), {"res": config})
    disturb(model)
    by_looking = Swift.prepare_model(torch_vit().eval(), {"res": ResTuningConfig()})
    for name, weight in by_looking.tuners["res"].state().items():
        weight.copy_(model.tuners["res"].state()[name])
    assert torch.equal(answer(model, torch_vit_inputs()), answer(by_looking, torch_vit_inputs()))


def test_a_bypass_that_joins_before_all_is_read_is_refused() -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), ResTuningConfig(target_modules=["layers.1.mlp"]))
    with pytest.raises(UnsupportedConfig, match="joins after 1 of the 2 modules that it reads"):
        answer(model, tiny_decoder_inputs())


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = Swift.prepare_model(torch_vit(), ResTuningConfig()).train()
    optimizer = torch.optim.Adam(model.tuners["default"].parameters().values(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (model(**torch_vit_inputs()) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_mamba_gets_a_bypass() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2, use_mambapy=False, pad_token_id=0
    )
    torch.manual_seed(0)
    host = transformers.MambaForCausalLM(config).eval()
    plain = answer(host, tiny_decoder_inputs())
    model = Swift.prepare_model(host, {"res": ResTuningConfig()})
    assert torch.equal(answer(model, tiny_decoder_inputs()), plain)
    assert {name.partition(".swift_res.")[0] for name in model.tuners["res"].parameters()} == {"backbone.norm_f"}
    disturb(model)
    assert not torch.equal(answer(model, tiny_decoder_inputs()), plain)


def test_it_cannot_be_merged_and_says_so() -> None:
    with pytest.raises(CannotMerge, match=r"tuner 'res' \(restuning\) cannot be folded"):
        Swift.merge(make_model(ResTuningConfig()))


@pytest.mark.parametrize(
    ("config", "make_host", "message"),
    [
        (ResTuningConfig(), toy_mlp, "ToyMLP holds no list of layers"),
        (ResTuningConfig(), toy_conv, "no norm stands beside 'blocks'"),
        (ResTuningConfig(use_bypass=False), toy_mlp, "ToyMLP has no layers whose attention and MLP"),
        (ResTuningConfig(use_bypass=False, stem_modules=["mlp"]), tiny_decoder, "stem_modules are for a bypass only"),
        (ResTuningConfig(adapter_length=0), tiny_decoder, "adapter_length is 0"),
        (ResTuningConfig(stem_modules=["up", "down"], target_modules=["down"]), toy_mlp, "features of one form"),
        (
            ResTuningConfig(use_bypass=False, tuner_cfg="res_prefix", target_modules=["conv"]),
            toy_conv,
            "maps take res_adapter",
        ),
    ],
    ids=["no layers", "no norm", "no operations", "stems", "no length", "widths", "maps"],
)
def test_what_does_not_fit_is_refused(
    config: ResTuningConfig, make_host: Callable[[], nn.Module], message: str
) -> None:
    host = make_host()
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert not any("swift" in name for name, _ in host.named_modules())
