"""SCEdit: on a real UNet of diffusers, without and with a picture that leads it, and on a decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    toy_mlp,
)
from swift_tuners.tuners.scedit import SCEditConfig, SCEditTuner
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, gelu


def make_unet() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet: nn.Module = diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    # Frozen, as a tuner freezes it: torch takes other kernels for weights without gradients.
    return unet.requires_grad_(False).eval()


def unet_inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([3, 7]),
        "encoder_hidden_states": torch.randn(2, 3, 8, generator=generator),
    }


def picture(num_rows: int = 2) -> Tensor:
    return torch.randn(num_rows, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def make_model(config: SCEditConfig, *, condition: Tensor | None = None, scale: float = 0.1) -> SwiftModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Swift.prepare_model(make_unet(), {"edit": config})
    disturb(model, scale=scale)
    if condition is not None:
        tuner_of(model).set_condition(condition)
    return model


def tuner_of(model: SwiftModel, name: str = "edit") -> SCEditTuner:
    tuner = model.tuners[name]
    assert isinstance(tuner, SCEditTuner)
    return tuner


def skips_of(model: SwiftModel) -> list[list[Tensor]]:
    """Return what each up block gets as skip connections, in the order in which it uses them."""
    caught: list[list[Tensor]] = []

    def see(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        caught.append([each.clone() for each in reversed(keywords["res_hidden_states_tuple"])])

    host: Any = model.host
    handles = [each.register_forward_pre_hook(see, with_kwargs=True) for each in host.up_blocks]
    answer(model, unet_inputs())
    for handle in handles:
        handle.remove()
    return caught


def test_it_keeps_the_laws_on_a_unet() -> None:
    check_tuner(SCEditConfig, make_unet, unet_inputs())


def test_led_by_a_picture_it_keeps_the_laws_on_a_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every tuner of the check gets the picture.
    monkeypatch.setattr(SCEditTuner, "condition", picture())
    check_tuner(lambda: SCEditConfig(condition_channels=3, hint_width=4), make_unet, unet_inputs())


def test_the_residual_stream_of_a_decoder_becomes_x_plus_up_gelu_down_x() -> None:
    model = Swift.prepare_model(tiny_decoder().eval(), {"edit": SCEditConfig(down_ratio=0.25)})
    disturb(model)
    layer: Any = model.host.get_submodule("model.layers.0")
    caught: list[Tensor] = []
    layer.register_forward_hook(lambda module, inputs, output: caught.append(output))
    answer(model, tiny_decoder_inputs())
    model.deactivate()
    answer(model, tiny_decoder_inputs())
    edited, plain = caught
    down, _, up = layer.swift_edit["tuner"]
    assert down.weight.shape == (8, 32)
    expected = plain + gelu(plain @ down.weight.T + down.bias) @ up.weight.T + up.bias
    assert torch.allclose(edited, expected, atol=1e-6)
    assert not torch.equal(edited, plain)


def test_every_skip_connection_of_a_unet_gets_an_edit_of_its_width() -> None:
    model = Swift.prepare_model(make_unet(), {"edit": SCEditConfig(down_ratio=0.5)})
    shapes = {
        name: tuple(each.shape)
        for name, each in model.tuners["edit"].state().items()
        if name.endswith("tuner.0.weight")
    }
    # From the UNet's own hand-over: up block 0 gets 16 and 8 channels, up block 1 gets 8 and 8.
    assert shapes == {
        "up_blocks.0.0.tuner.0.weight": (8, 16, 1, 1),
        "up_blocks.0.1.tuner.0.weight": (4, 8, 1, 1),
        "up_blocks.1.0.tuner.0.weight": (4, 8, 1, 1),
        "up_blocks.1.1.tuner.0.weight": (4, 8, 1, 1),
    }


def test_a_skip_connection_becomes_x_plus_up_gelu_down_x() -> None:
    model = make_model(SCEditConfig())
    edited = skips_of(model)
    model.deactivate()
    plain = skips_of(model)
    host: Any = model.host
    for index, block in enumerate(host.up_blocks):
        for edit, before, after in zip(block.swift_edit, plain[index], edited[index], strict=True):
            down, _, up = edit["tuner"]
            hidden = gelu(torch.einsum("bchw,kc->bkhw", before, down.weight[..., 0, 0]) + down.bias[:, None, None])
            expected = before + torch.einsum("bkhw,ck->bchw", hidden, up.weight[..., 0, 0]) + up.bias[:, None, None]
            assert torch.allclose(after, expected, atol=1e-5)
            assert not torch.equal(after, before)


def test_led_by_a_picture_it_becomes_x_plus_s_times_t_of_x_plus_c_plus_c() -> None:
    model = make_model(SCEditConfig(condition_channels=3, condition_scale=0.5, hint_width=4), condition=picture())
    edited = skips_of(model)
    model.deactivate()
    plain = skips_of(model)
    host: Any = model.host
    encoded = host.swift_edit(picture())
    for index, block in enumerate(host.up_blocks):
        for edit, before, after in zip(block.swift_edit, plain[index], edited[index], strict=True):
            c = edit["hint"](adaptive_avg_pool2d(encoded, (before.shape[-2], before.shape[-1])))
            assert torch.allclose(after, before + 0.5 * (edit["tuner"](before + c) + c), atol=1e-5)


def test_another_picture_gives_another_answer_and_none_gives_the_hosts() -> None:
    model, inputs = make_model(SCEditConfig(condition_channels=3, hint_width=4), condition=picture()), unet_inputs()
    one = answer(model, inputs)
    tuner_of(model).set_condition(picture().flip(0))
    assert not torch.allclose(answer(model, inputs), one, atol=1e-4)
    tuner_of(model).set_condition(None)
    assert torch.equal(answer(model, inputs), answer(make_unet(), inputs))


def test_one_picture_leads_all_rows_of_the_batch() -> None:
    config, inputs = SCEditConfig(condition_channels=3, hint_width=4), unet_inputs()
    one = answer(make_model(config, condition=picture(1)), inputs)
    assert torch.allclose(one, answer(make_model(config, condition=picture(1).repeat(2, 1, 1, 1)), inputs), atol=1e-6)


def test_the_picture_trains_its_encoder_once_the_last_layer_has_moved() -> None:
    model = make_model(SCEditConfig(condition_channels=3, hint_width=4), condition=picture())
    for _ in range(2):
        model(**unet_inputs()).sample.square().mean().backward()
    gradients = {name: each.grad for name, each in model.tuners["edit"].parameters().items()}
    assert all(each is not None and bool(each.abs().sum() > 0) for each in gradients.values())
    assert "swift_edit.0.weight" in gradients
    copy.deepcopy(model)  # nothing of a call stays that could not be copied


def test_two_pictures_are_two_tuners() -> None:
    inputs = unet_inputs()
    config = SCEditConfig(condition_channels=3, hint_width=4)
    model = Swift.prepare_model(make_unet(), {"depth": config, "edges": config})
    disturb(model)
    tuner_of(model, "depth").set_condition(picture())
    tuner_of(model, "edges").set_condition(picture().neg())
    both = answer(model, inputs)
    model.set_active_tuners("depth")
    one = answer(model, inputs)
    model.detach("edges")
    assert torch.equal(answer(model, inputs), one)
    assert not torch.equal(both, one)


def test_saved_it_is_led_by_the_same_picture_as_before(tmp_path: Path) -> None:
    model = make_model(SCEditConfig(condition_channels=3, hint_width=4), condition=picture())
    Swift.save(model, tmp_path)
    loaded = Swift.from_pretrained(make_unet(), tmp_path)
    tuner_of(loaded).set_condition(picture())
    assert torch.equal(answer(loaded, unet_inputs()), answer(model, unet_inputs()))


@pytest.mark.parametrize("channels", [0, 3])
def test_gradient_checkpointing_leaves_the_gradients_of_a_unet_as_they_are(channels: int) -> None:
    found = []
    for checkpointing in (False, True):
        model = make_model(
            SCEditConfig(condition_channels=channels, hint_width=4), condition=picture() if channels else None
        )
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.train()
        model(**unet_inputs()).sample.square().mean().backward()
        found.append([each.grad for each in model.tuners["edit"].parameters().values()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_leaves_the_gradients_of_a_decoder_as_they_are(use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Swift.prepare_model(tiny_decoder(), SCEditConfig())
        disturb(model)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model.train()
        model(**tiny_decoder_inputs()).logits.square().mean().backward()
        found.append([each.grad for each in model.tuners["default"].parameters().values()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_the_loss_of_a_unet_falls() -> None:
    torch.manual_seed(0)
    model = Swift.prepare_model(make_unet(), SCEditConfig(condition_channels=3, hint_width=4)).train()
    tuner_of(model, "default").set_condition(picture())
    optimizer = torch.optim.Adam(model.tuners["default"].parameters().values(), lr=1e-2)
    target = unet_inputs()["sample"].neg()
    losses = []
    for _ in range(20):
        loss = (model(**unet_inputs()).sample - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_named_modules_are_edited_in_what_they_return() -> None:
    model = Swift.prepare_model(make_unet(), {"edit": SCEditConfig(target_modules=["up_blocks.1", "conv_in"])})
    assert {name.partition(".swift_edit")[0] for name in model.tuners["edit"].parameters()} == {
        "up_blocks.1",
        "conv_in",
    }


def test_it_cannot_be_merged_and_says_so() -> None:
    with pytest.raises(CannotMerge, match=r"tuner 'edit' \(scedit\) cannot be folded"):
        Swift.merge(make_model(SCEditConfig()))


@pytest.mark.parametrize(
    ("config", "make_host", "message"),
    [
        (SCEditConfig(), toy_mlp, "ToyMLP has neither the up blocks of a UNet nor a list of blocks"),
        (SCEditConfig(condition_channels=3), tiny_decoder, "which a picture cannot be added to"),
        (SCEditConfig(down_ratio=0), tiny_decoder, "down_ratio is 0"),
        (SCEditConfig(condition_channels=-1), tiny_decoder, "condition_channels -1"),
    ],
    ids=["no blocks", "no maps", "no width", "no channels"],
)
def test_what_does_not_fit_is_refused(config: SCEditConfig, make_host: Callable[[], nn.Module], message: str) -> None:
    host = make_host()
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert not any("swift" in name for name, _ in host.named_modules())


def test_pictures_that_do_not_fit_are_refused() -> None:
    led, plain = make_model(SCEditConfig(condition_channels=3, hint_width=4)), make_model(SCEditConfig())
    with pytest.raises(UnsupportedConfig, match=r"the condition is \(2, 3, 16, 16\), but .* set condition_channels"):
        tuner_of(plain).set_condition(picture())
    with pytest.raises(UnsupportedConfig, match=r"\(2, 2, 16, 16\), but .* takes \(batch, 3, height, width\)"):
        tuner_of(led).set_condition(picture()[:, :2])
    tuner_of(led).set_condition(picture(3))
    with pytest.raises(UnsupportedConfig, match="the condition has 3 rows, the batch 2"):
        answer(led, unet_inputs())
