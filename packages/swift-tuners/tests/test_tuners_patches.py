"""Each patch mends what it is for, which is broken without it."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from swift_tuners import LoraConfig, Swift
from swift_tuners.errors import UnsupportedConfig
from swift_tuners.models.architecture_check import run, token_loss
from swift_tuners.models.patch import PATCHES, apply_patches
from swift_tuners.models.tiny_architectures import Task, build_tiny
from swift_tuners.models.tiny_inputs import tiny_inputs
from swift_tuners.testing import tiny_decoder, toy_mlp
from torch import Tensor, nn
from transformers import PreTrainedModel

IN_PLACE = "a leaf Variable that requires grad is being used in an in-place operation"


def gradients(model: PreTrainedModel, **checkpointing: bool) -> dict[str, Tensor | None]:
    """Return the gradients of a LoRA on all linear layers, with gradient checkpointing if options of it are given."""
    inputs = tiny_inputs(model)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
    torch.manual_seed(0)
    tuned = Swift.prepare_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    tuned.train()
    token_loss(run(tuned, inputs), inputs).backward()
    return {name: parameter.grad for name, parameter in tuned.tuners["default"].parameters().items()}


def check_equal(given: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> None:
    """Assert that both have gradients for the same parameters, and equal ones."""
    assert {name for name, each in given.items() if each is not None} == {
        name for name, each in expected.items() if each is not None
    }
    for name, gradient in given.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_every_patch_says_what_it_is_for() -> None:
    assert PATCHES.names() == [
        *("in_place_embeddings", "listed_embeddings", "missing_embedding_getter", "reversible_blocks", "shared_keys")
    ]
    for name in PATCHES.names():
        patch = PATCHES.load_class(name)
        assert patch.symptom
        assert patch.link.startswith("https://github.com/")
        assert patch.remove_when


@pytest.mark.parametrize("make_model", [toy_mlp, tiny_decoder, lambda: nn.Sequential(nn.Linear(2, 2))])
def test_a_model_without_need_stays_as_it_was(make_model: Any) -> None:  # noqa: ANN401  # a function of any model
    model = make_model()
    before = dict(vars(model))
    assert apply_patches(model) == []
    assert vars(model) == before


def test_a_patch_is_applied_once_and_to_one_model() -> None:
    model, other = build_tiny("git"), build_tiny("git")
    assert apply_patches(model) == ["in_place_embeddings"]
    assert apply_patches(model) == []
    assert "enable_input_require_grads" in vars(model)
    assert "enable_input_require_grads" not in vars(other)
    assert "enable_input_require_grads" not in vars(type(other))


def test_a_copy_of_a_patched_model_stands_alone() -> None:
    model = build_tiny("git")
    apply_patches(model)
    twin = copy.deepcopy(model)
    assert cast("Any", twin).enable_input_require_grads.__self__ is twin
    check_equal(gradients(twin, use_reentrant=False), gradients(build_tiny("git")))
    # The hooks went to the copy.
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model_type", "task", "reentrant"),
    [
        ("blt", "causal-lm", False),
        ("git", "causal-lm", False),
        ("udop", "image-text", False),
        # These do not say that they read tokens, and so get the hook only where it is asked for.
        ("blip", "image-text", True),
        ("kosmos-2", "image-text", True),
    ],
)
def test_in_place_embeddings(model_type: str, task: Task, reentrant: bool) -> None:
    broken = build_tiny(model_type, task)
    if reentrant:
        broken.enable_input_require_grads()
    with pytest.raises(RuntimeError, match=IN_PLACE):
        gradients(broken, use_reentrant=reentrant)
    model = build_tiny(model_type, task)
    assert apply_patches(model) == ["in_place_embeddings"]
    if reentrant:
        model.enable_input_require_grads()
    check_equal(gradients(model, use_reentrant=reentrant), gradients(build_tiny(model_type, task)))


def test_in_place_embeddings_without_checkpointing() -> None:
    broken, model = build_tiny("ctrl"), build_tiny("ctrl")
    broken.enable_input_require_grads()
    with pytest.raises(RuntimeError, match=IN_PLACE):
        gradients(broken)
    apply_patches(model)
    model.enable_input_require_grads()
    check_equal(gradients(model), gradients(build_tiny("ctrl")))
    model.disable_input_require_grads()
    assert not any(module._forward_hooks for module in model.modules())


def test_listed_embeddings() -> None:
    expected = gradients(build_tiny("musicgen"))
    broken = gradients(build_tiny("musicgen"), use_reentrant=True)
    assert all(gradient is None for name, gradient in broken.items() if ".layers.0." in name)
    model = build_tiny("musicgen")
    assert apply_patches(model) == ["listed_embeddings"]
    check_equal(gradients(model, use_reentrant=True), expected)


def test_missing_embedding_getter() -> None:
    broken, model = build_tiny("pp_formulanet", "image-text"), build_tiny("pp_formulanet", "image-text")
    with pytest.raises(UnsupportedConfig, match="get_input_embeddings"):
        gradients(broken)
    assert apply_patches(model) == ["missing_embedding_getter"]
    assert model.get_input_embeddings() is model.get_submodule("model.decoder.embed_tokens")
    assert any(gradient is not None for gradient in gradients(model).values())


def test_reversible_blocks() -> None:
    broken, model = build_tiny("reformer"), build_tiny("reformer")
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradients(broken)
    assert apply_patches(model) == ["reversible_blocks"]
    found = gradients(model)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())


def test_shared_keys(caplog: pytest.LogCaptureFixture) -> None:
    expected = gradients(build_tiny("gemma3n_text"))
    broken = gradients(build_tiny("gemma3n_text"), use_reentrant=True)
    with pytest.raises(AssertionError):
        check_equal(broken, expected)
    model = build_tiny("gemma3n_text")
    assert apply_patches(model) == ["shared_keys"]
    check_equal(gradients(model, use_reentrant=True), expected)
    assert "use_reentrant=True is ignored" in caplog.text


def test_shared_keys_of_a_diffusion_model() -> None:
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        gradients(build_tiny("diffusion_gemma", "image-text"), use_reentrant=True)
    model = build_tiny("diffusion_gemma", "image-text")
    assert apply_patches(model) == ["shared_keys"]
    expected = gradients(build_tiny("diffusion_gemma", "image-text"))
    check_equal(gradients(model, use_reentrant=True), expected)
