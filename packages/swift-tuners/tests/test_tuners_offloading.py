"""Tuners out of memory and back: copies, failures, garbage; and hosts whose own weights are on a disk."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from swift_tuners import TUNERS, LLaMAProConfig, LoraConfig, ModelArgs, Swift, SwiftModel, load_model
from swift_tuners.errors import InvalidCheckpoint, UnsupportedConfig
from swift_tuners.testing import answer, disturb, tiny_decoder, tiny_decoder_inputs, toy_mlp, toy_mlp_inputs


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def make_offloaded() -> tuple[SwiftModel, torch.Tensor]:
    """Return a model whose one tuner is on meta, and what it answers with it."""
    model = Swift.prepare_model(toy_mlp().eval(), LoraConfig(r=2, target_modules=["up"]))
    disturb(model)
    on = answer(model, toy_mlp_inputs())
    model.offload("default", device="meta")
    return model, on


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_of_an_offloaded_tuner_has_its_own_file(first: str, temporary: Path) -> None:
    model, on = make_offloaded()
    twin = copy.deepcopy(model)
    assert len(list(temporary.iterdir())) == 2
    for each in (model, twin) if first == "original" else (twin, model):
        each.activate("default")
        assert torch.equal(answer(each, toy_mlp_inputs()), on)
    disturb(twin)
    assert torch.equal(answer(model, toy_mlp_inputs()), on)
    assert list(temporary.iterdir()) == []


def test_a_tuner_whose_file_is_lost_stays_off_and_can_be_taken_off(temporary: Path) -> None:
    model, _ = make_offloaded()
    (folder,) = temporary.iterdir()
    moved = shutil.move(folder, temporary / "moved")
    plain = answer(toy_mlp(), toy_mlp_inputs())
    for _ in range(2):
        with pytest.raises(InvalidCheckpoint, match="does not exist"):
            model.activate("default")
        assert model.active_tuners == []
        assert torch.equal(answer(model, toy_mlp_inputs()), plain)
    twin, _ = make_offloaded()
    shutil.move(moved, folder)
    model.activate("default")
    assert torch.isfinite(answer(model, toy_mlp_inputs())).all()
    for path in temporary.iterdir():
        shutil.rmtree(path)
    assert torch.equal(answer(twin.unload(), toy_mlp_inputs()), plain)


def test_the_file_goes_with_the_model(temporary: Path) -> None:
    model, _ = make_offloaded()
    assert len(list(temporary.iterdir())) == 1
    del model
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_an_offloaded_model_is_not_pickled_with_a_file_that_it_shares(temporary: Path) -> None:
    model, _ = make_offloaded()
    with pytest.raises(UnsupportedConfig, match="activate them first"):
        pickle.dumps(model)


# Parts of the model that device_map puts on a disk, and the methods that work there.
PARTS = {
    "layers": (["model.layers.0"], {"prompt_tuning", "prefix_tuning", "p_tuning", "lora", "reft", "scedit"}),
    "embedding": (["model.embed_tokens", "lm_head"], {"lora", "reft", "scedit"}),
}


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "p_tuning", "llamapro", "full", "lora", "reft"])
@pytest.mark.parametrize("part", PARTS)
def test_on_a_host_that_is_partly_on_a_disk_a_method_trains_or_is_refused(
    part: str, method: str, tmp_path: Path
) -> None:
    tiny_decoder().save_pretrained(tmp_path)
    places = dict.fromkeys(
        ("model.embed_tokens", "model.rotary_emb", "lm_head", "model.layers.0", "model.layers.1", "model.norm"), "cpu"
    )
    offloaded, working = PARTS[part]
    places |= dict.fromkeys(offloaded, "disk")
    args = ModelArgs(model=str(tmp_path), torch_dtype="float32", device_map=json.dumps(places))
    host, inputs = load_model(args).model, tiny_decoder_inputs()
    plain, names = answer(host, inputs), [name for name, _ in host.named_modules()]
    options = TUNERS.load_class(method)
    config = options(**options.laws.example).build_config()
    if method not in working:
        with pytest.raises(UnsupportedConfig, match="device_map has offloaded"):
            Swift.prepare_model(host, config)
        assert [name for name, _ in host.named_modules()] == names
        return
    model = Swift.prepare_model(host, config).train()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(parameter.grad is not None for parameter in model.tuners["default"].parameters().values())
    assert torch.equal(answer(model.eval().unload(), inputs), plain)


def test_llamapro_says_what_is_offloaded(tmp_path: Path) -> None:
    tiny_decoder().save_pretrained(tmp_path)
    args = ModelArgs(model=str(tmp_path), torch_dtype="float32", device_map='{"": "disk"}')
    with pytest.raises(UnsupportedConfig, match="copies blocks and tries the model, but device_map has offloaded"):
        Swift.prepare_model(load_model(args).model, LLaMAProConfig(num_new_blocks=1))
