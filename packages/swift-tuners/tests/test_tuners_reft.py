"""LoReFT: the formula, its positions with padding, packing and generation, and what it cannot know."""

from __future__ import annotations

from collections.abc import Callable
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
    toy_conv,
    toy_mlp,
)
from swift_tuners.tuners.reft import ReFTConfig, ReFTTuner, orthonormal_rows
from torch import Tensor, nn


def make_model(config: ReFTConfig, *, scale: float = 0.3) -> SwiftModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Swift.prepare_model(tiny_decoder().eval(), {"reft": config})
    disturb(model, scale=scale)
    return model


def by_hand(branch: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401  # layers by name
    """Return h + R^T (W h + b - R h), with R by Gram and Schmidt."""
    rows: list[Tensor] = []
    for row in branch.rotate.weight.detach():
        for other in rows:
            row = row - (row @ other) * other
        rows.append(row / row.norm())
    rotation = torch.stack(rows)
    source = branch.source
    change: Tensor = (hidden @ source.weight.T + source.bias - hidden @ rotation.T) @ rotation
    return hidden + change


def edited(model: SwiftModel, **inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a layer returns with the edit, without, and edited by hand at all positions."""
    caught: list[Tensor] = []
    host: Any = model.host
    module = host.model.layers[0]
    handle = module.register_forward_hook(lambda m, args, output: caught.append(output.detach().clone()))
    with torch.no_grad():
        model(**inputs)
        model.deactivate()
        model(**inputs)
        model.activate("reft")
    handle.remove()
    edit = module.swift_reft.edit
    return caught[0], caught[1], by_hand(edit, caught[1]).detach()


def changed_tokens(model: SwiftModel, **inputs: Tensor) -> list[list[int]]:
    on, off, all_edited = edited(model, **inputs)
    changed = (on != off).any(dim=-1)
    assert torch.allclose(on, torch.where(changed[..., None], all_edited, off), atol=1e-5)
    return [row.nonzero().flatten().tolist() for row in changed]


@pytest.mark.parametrize("positions", ["all", "prompt", "f1+l1", "f3"])
def test_it_keeps_the_laws(positions: str) -> None:
    check_tuner(
        lambda: ReFTConfig(positions=positions), tiny_decoder, tiny_decoder_inputs() | with_labels(positions != "all")
    )


def with_labels(wanted: bool) -> dict[str, Tensor]:
    labels = torch.full((2, 7), -100)
    labels[:, 4:] = 5
    return {"labels": labels} if wanted else {}


def test_separate_edits_for_first_and_last_tokens_keep_the_laws() -> None:
    check_tuner(
        lambda: ReFTConfig(positions="f2+l2", share_weights=False),
        tiny_decoder,
        tiny_decoder_inputs() | with_labels(True),
    )


def test_every_token_is_edited_by_the_formula_of_the_paper() -> None:
    model = make_model(ReFTConfig())
    on, off, expected = edited(model, **tiny_decoder_inputs())
    assert torch.allclose(on, expected, atol=1e-5)
    assert not torch.allclose(on, off, atol=1e-2)


def test_the_rotation_has_orthonormal_rows_and_leaves_orthonormal_ones_as_they_are() -> None:
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    rotation = orthonormal_rows(weight)
    assert torch.allclose(rotation @ rotation.T, torch.eye(4), atol=1e-6)
    assert torch.allclose(orthonormal_rows(rotation), rotation, atol=1e-6)
    # It spans the same space: each row of the weight is a sum of the rotation's.
    assert torch.allclose(weight @ rotation.T @ rotation, weight, atol=1e-5)


def test_only_the_chosen_layers_are_edited() -> None:
    model = make_model(ReFTConfig(layers=[1], rank=2))
    assert {name.partition(".swift_reft.")[0] for name in model.tuners["reft"].parameters()} == {"model.layers.1"}
    # R: 2 x 32, W: 2 x 32, b: 2
    assert model.count_parameters().trainable == 2 * 32 + 2 * 32 + 2


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ("f2", [[0, 1], [3, 4]]),
        ("l2", [[5, 6], [5, 6]]),
        ("f1+l2", [[0, 5, 6], [3, 5, 6]]),
        ("f3+l3", [[0, 1, 2, 4, 5, 6], [3, 4, 5, 6]]),
        ("prompt", [[0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6]]),
    ],
)
def test_positions_are_counted_without_padding(positions: str, expected: list[list[int]]) -> None:
    mask = torch.tensor([[1] * 7, [0, 0, 0, 1, 1, 1, 1]])
    model = make_model(ReFTConfig(positions=positions))
    assert changed_tokens(model, **tiny_decoder_inputs(), attention_mask=mask) == expected


def test_padding_to_the_right_is_not_counted_either() -> None:
    mask = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]])
    model = make_model(ReFTConfig(positions="f1+l2"))
    assert changed_tokens(model, **tiny_decoder_inputs(), attention_mask=mask) == [[0, 5, 6], [0, 2, 3]]


@pytest.mark.parametrize(
    ("positions", "expected"), [("f1+l1", [0, 2, 4, 5]), ("prompt", [0, 1, 2, 4, 5]), ("f7", [0, 1, 2, 4, 5])]
)
def test_in_packed_rows_each_sample_has_its_own_prompt_which_labels_end(positions: str, expected: list[int]) -> None:
    ids = tiny_decoder_inputs()["input_ids"][:1]
    position_ids = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    labels = torch.tensor([[-100, -100, -100, 9, -100, -100, 9]])
    model = make_model(ReFTConfig(positions=positions))
    assert changed_tokens(model, input_ids=ids, position_ids=position_ids, labels=labels) == [expected]


def test_what_follows_the_first_answer_is_no_prompt() -> None:
    labels = torch.tensor([[-100, -100, 4, 4, -100, -100, 4]] * 2)
    model = make_model(ReFTConfig(positions="prompt"))
    assert changed_tokens(model, **tiny_decoder_inputs(), labels=labels) == [[0, 1]] * 2


def test_labels_can_be_told_to_the_tuner_where_the_model_gets_none() -> None:
    model = make_model(ReFTConfig(positions="l1")).train()
    tuner = model.tuners["reft"]
    assert isinstance(tuner, ReFTTuner)
    tuner.on_batch(with_labels(True)["labels"])
    assert changed_tokens(model, **tiny_decoder_inputs()) == [[3], [3]]
    tuner.on_batch(None)
    with pytest.raises(UnsupportedConfig, match="'l1' need the end of each prompt, which in training only labels tell"):
        model(**tiny_decoder_inputs())


def test_the_inner_model_called_on_its_own_is_edited_too() -> None:
    model = make_model(ReFTConfig(positions="f1+l1"))
    ids, mask = tiny_decoder_inputs()["input_ids"], torch.tensor([[1] * 7, [0, 0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        inner = model.host.get_submodule("model")(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(inner, whole)


@pytest.mark.parametrize("share_weights", [True, False])
def test_generation_edits_the_prompt_once_and_the_answer_never(share_weights: bool) -> None:
    model = make_model(ReFTConfig(positions="f1+l1", share_weights=share_weights), scale=1.0)
    ids = tiny_decoder_inputs()["input_ids"]
    generated = model.generate(input_ids=ids, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    # The same without a cache: the prompt's length is told by labels.
    tuner = model.tuners["reft"]
    assert isinstance(tuner, ReFTTuner)
    expected = ids
    for step in range(4):
        labels = torch.full((2, 7 + step), -100)
        labels[:, 7:] = 1
        tuner.on_batch(labels)
        with torch.no_grad():
            logits = model(input_ids=expected, use_cache=False).logits[:, -1]
        logits[:, 2] = -torch.inf  # min_new_tokens forbids the end
        expected = torch.cat([expected, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generated, expected)


def test_all_positions_are_edited_in_generation_as_in_training() -> None:
    model = make_model(ReFTConfig(), scale=1.0)
    ids = tiny_decoder_inputs()["input_ids"]
    options = {"max_new_tokens": 4, "do_sample": False}
    cached, whole = (model.generate(input_ids=ids, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("positions", ["all", "f2+l1"])
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(positions: str, use_reentrant: bool) -> None:
    found = []
    mask = torch.tensor([[1] * 7, [0, 0, 0, 1, 1, 1, 1]])
    for checkpointing in (False, True):
        model = make_model(ReFTConfig(positions=positions))
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model.train()
        # Two steps of different prompts, and answers in between.
        for first in (4, 6):
            labels = torch.full((2, 7), -100)
            labels[:, first:] = 5
            loss = model(**tiny_decoder_inputs(), attention_mask=mask, labels=labels).logits.square().mean()
            model.eval()
            answer(model, tiny_decoder_inputs())
            model.train()
            loss.backward()
        found.append([each.grad for each in model.tuners["reft"].parameters().values()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_recomputing_one_of_two_calls_of_different_prompts_is_refused() -> None:
    model = make_model(ReFTConfig(positions="f2+l1"))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    loss = torch.zeros(())
    for first in (4, 6):
        labels = torch.full((2, 7), -100)
        labels[:, first:] = 5
        loss = loss + model(**tiny_decoder_inputs(), labels=labels).logits.square().mean()
    with pytest.raises(UnsupportedConfig, match="recomputed after several calls of different prompts"):
        loss.backward()


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = Swift.prepare_model(tiny_decoder(), ReFTConfig(rank=8)).train()
    inputs = tiny_decoder_inputs()
    optimizer = torch.optim.Adam(model.tuners["default"].parameters().values(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # The tied head of random weights and the frozen norm bound the logits, and so the loss from below.
    assert losses[-1] < losses[0] - 0.1


def test_a_mamba_is_edited_and_generates_as_without_a_cache() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(
        vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2, use_mambapy=False, pad_token_id=0
    )
    torch.manual_seed(0)
    model = Swift.prepare_model(transformers.MambaForCausalLM(config).eval(), ReFTConfig(positions="f1+l1"))
    disturb(model, scale=1.0)
    ids = tiny_decoder_inputs()["input_ids"]
    calls: list[bool] = []
    layer = model.host.get_submodule("backbone.layers.0")

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(output.shape[1] > 1)

    layer.register_forward_hook(see)
    cached = model.generate(input_ids=ids, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert calls == [True, False, False]
    tuner, expected = model.tuners["default"], ids
    assert isinstance(tuner, ReFTTuner)
    for step in range(3):
        labels = torch.full((2, 7 + step), -100)
        labels[:, 7:] = 1
        tuner.on_batch(labels)
        with torch.no_grad():
            logits = model(input_ids=expected, use_cache=False).logits[:, -1]
        if config.eos_token_id is not None:
            logits[:, config.eos_token_id] = -torch.inf
        expected = torch.cat([expected, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(cached, expected)


def test_it_cannot_be_merged_and_says_so() -> None:
    with pytest.raises(CannotMerge, match=r"tuner 'reft' \(reft\) cannot be folded"):
        Swift.merge(make_model(ReFTConfig()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ReFTConfig(positions="x7"), "positions are 'x7'; expected all, prompt"),
        (ReFTConfig(positions=""), "positions are ''"),
        (ReFTConfig(positions="f0"), "positions are 'f0'"),
        (ReFTConfig(layers=[2]), "layers has 2, but 'model.layers' holds 2; expected 0 to 1"),
        (ReFTConfig(rank=33), "rank is 33"),
        (ReFTConfig(rank=0), "rank is 0"),
    ],
    ids=["no positions", "empty", "none", "no such layer", "large", "small"],
)
def test_wrong_options_are_refused(config: ReFTConfig, message: str) -> None:
    host = tiny_decoder()
    with pytest.raises(UnsupportedConfig, match=message):
        Swift.prepare_model(host, config)
    assert not any("swift" in name for name, _ in host.named_modules())


@pytest.mark.parametrize("make_host", [toy_mlp, toy_conv])
def test_a_model_without_layers_of_hidden_states_is_refused(make_host: Callable[[], nn.Module]) -> None:
    with pytest.raises(UnsupportedConfig):
        Swift.prepare_model(make_host(), ReFTConfig())


def test_a_mask_that_does_not_tell_padding_is_refused() -> None:
    model = make_model(ReFTConfig(positions="f1"))
    with pytest.raises(UnsupportedConfig, match=r"the attention mask is \(2, 1, 7, 7\)"):
        model(**tiny_decoder_inputs(), attention_mask=torch.zeros(2, 1, 7, 7))
