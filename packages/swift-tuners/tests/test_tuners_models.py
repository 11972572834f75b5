"""From a name to a model: folders, both hubs' caches, types, and what a wrong name or a broken folder says."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from swift_tuners import LoraConfig, ModelArgs, Swift, load_model, resolve_model
from swift_tuners.errors import InvalidModel, ModelNotFound
from swift_tuners.models.folder import copy_companions
from swift_tuners.models.load import choose_dtype
from swift_tuners.testing import answer, tiny_decoder, tiny_decoder_inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_decoder().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(saved, tmp_path / "tiny")


def test_a_folder_is_loaded_with_its_weights(saved: Path) -> None:
    loaded = load_model(ModelArgs(model=str(saved), torch_dtype="float32"))
    assert (loaded.folder, loaded.name, loaded.revision) == (saved, str(saved), None)
    assert not loaded.model.training
    assert torch.equal(answer(loaded.model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


def test_a_relative_folder_is_named_by_its_whole_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    assert resolve_model(ModelArgs(model="tiny")).name == str(saved)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_hf": True}, "--use_hf: no effect on model"),
        ({"model_revision": "v1", "use_hf": True}, "--model_revision and --use_hf: no effect on model"),
        ({}, ""),
    ],
)
def test_hub_options_for_a_folder_are_told_to_have_no_effect(
    options: dict[str, Any], message: str, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = resolve_model(ModelArgs(model=str(saved), **options))
    assert not found.use_hf
    assert len(caplog.records) == bool(message)
    assert message in caplog.text


def test_a_model_that_was_found_is_not_looked_for_again(saved: Path) -> None:
    found = resolve_model(ModelArgs(model=str(saved)))
    loaded = load_model(ModelArgs(model="no such model"), found)
    assert (loaded.folder, loaded.name) == (found.folder, found.name)


COMPANIONS = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "qwen.tiktoken", "tekken.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"),
    *("preprocessor_config.json", "processor_config.json", "generation_config.json", "modeling_wonder.py", "LICENSE"),
    "additional_chat_templates/rag.jinja",
)
NOT_COMPANIONS = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("a.pt", "a.pth", "a.gguf", "a.h5", "a.msgpack", "a.onnx", "config.json", "swift.json", "manifest.json"),
    *("adapter_config.json", "adapter_model.safetensors", "tuner_config.json", ".gitattributes", "checkpoint-1/a.json"),
)


def test_what_stands_beside_the_weights_is_copied_and_nothing_else(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    (target / "generation_config.json").write_text("its own")
    for name in (*COMPANIONS, *NOT_COMPANIONS):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    copy_companions(source, target)
    copied = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert copied == {**{name: name for name in COMPANIONS}, "generation_config.json": "its own"}


def test_type_and_attention_are_as_asked(saved: Path) -> None:
    loaded = load_model(ModelArgs(model=str(saved), torch_dtype="bfloat16", attn_impl="eager"))
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.config._attn_implementation == "eager"


def test_the_automatic_type_is_one_that_the_hardware_multiplies_fast() -> None:
    if torch.cuda.is_available():
        pytest.skip("the expected value below is for a machine without a GPU")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert choose_dtype("auto") == (torch.bfloat16 if " amx_bf16 " in flags else torch.float32)


def put_into_hf_cache(model: Path, cache: Path) -> str:
    """Lay a model folder out as huggingface_hub does, but for its symbolic links into `blobs`."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--some-owner--tiny.model"
    shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return commit


def put_into_modelscope_cache(model: Path, cache: Path) -> str:
    """Lay a model folder out as modelscope does since 1.38."""
    shutil.copytree(model, cache / "models" / "some-owner--tiny.model" / "snapshots" / "master")
    return "master"


def put_into_old_modelscope_cache(model: Path, cache: Path) -> str:
    """Lay a model folder out as modelscope did before."""
    shutil.copytree(model, cache / "models" / "some-owner" / "tiny___model")
    return "tiny___model"


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for both hubs, whose addresses are a closed port: a call to the network fails at once."""
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hubs"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", closed)
    if importlib.util.find_spec("modelscope_hub") is not None:
        config = importlib.import_module("modelscope_hub.config")
        monkeypatch.setattr(config, "_default_config", config.HubConfig(cache_dir=tmp_path / "hubs"))
    return tmp_path / "hubs"


needs_modelscope = pytest.mark.skipif(importlib.util.find_spec("modelscope") is None, reason="needs modelscope")


@pytest.mark.parametrize(
    ("fill", "use_hf"),
    [
        pytest.param(put_into_hf_cache, True, id="huggingface"),
        pytest.param(put_into_modelscope_cache, False, id="modelscope", marks=needs_modelscope),
        pytest.param(put_into_old_modelscope_cache, False, id="modelscope before 1.38", marks=needs_modelscope),
    ],
)
def test_a_model_in_a_hubs_cache_is_found_without_network(
    fill: Callable[[Path, Path], str], use_hf: bool, saved: Path, hubs: Path
) -> None:
    version = fill(saved, hubs)
    found = resolve_model(ModelArgs(model="some-owner/tiny.model", use_hf=use_hf))
    assert (found.folder.name, found.use_hf) == (version, use_hf)
    assert (found.name, found.revision) == ("some-owner/tiny.model", version if use_hf else None)
    assert answer(load_model(ModelArgs(model=str(found.folder))).model, tiny_decoder_inputs()).shape == (2, 7, 64)


@pytest.mark.parametrize("offline", [False, True])
def test_hugging_faces_cache_serves_with_and_without_the_offline_switch(
    offline: bool, saved: Path, hubs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    commit = put_into_hf_cache(saved, hubs)
    for revision in (None, "main", commit):
        args = ModelArgs(model="some-owner/tiny.model", model_revision=revision, use_hf=True)
        assert resolve_model(args).revision == commit


def test_a_cache_that_holds_the_model_in_part_does_not_serve(saved: Path, hubs: Path) -> None:
    commit = put_into_hf_cache(saved, hubs)
    (hubs / "models--some-owner--tiny.model" / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"not in the local cache, and http://127\.0\.0\.1:9 cannot be reached"):
        resolve_model(ModelArgs(model="some-owner/tiny.model", use_hf=True))


def test_an_adapter_on_a_model_from_hugging_face_names_it_by_its_id(saved: Path, hubs: Path, tmp_path: Path) -> None:
    put_into_hf_cache(saved, hubs)
    loaded = load_model(ModelArgs(model="some-owner/tiny.model", use_hf=True))
    Swift.prepare_model(loaded.model, LoraConfig(target_modules="all-linear")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some-owner/tiny.model"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(ModelArgs(model="smollm2-135m-instrct"), "did you mean 'smollm2-135m-instruct'", id="embedded"),
        pytest.param(ModelArgs(model="weights.gguf"), "model file 'weights.gguf' does not exist", id="gguf"),
        pytest.param(
            ModelArgs(model="./no/such/folder"), "does not look like a hub id, which is OWNER/NAME", id="folder"
        ),
        pytest.param(ModelArgs(model="no such model"), "does not look like a hub id", id="words"),
        pytest.param(ModelArgs(model="owner/none", use_hf=True), "cache, and http://127.0.0.1:9 cannot be", id="hf"),
        pytest.param(
            ModelArgs(model="owner/none"), "cache, and http://127.0.0.1:9 cannot be", id="ms", marks=needs_modelscope
        ),
    ],
)
def test_an_unknown_model_is_refused_quickly(args: ModelArgs, message: str, hubs: Path) -> None:
    if not args.use_hf:
        # Its import alone takes seconds.
        importlib.import_module("modelscope")
    start = time.monotonic()
    with pytest.raises(ModelNotFound, match=message):
        resolve_model(args)
    # modelscope alone would try again for 20 s.
    assert time.monotonic() - start < 5


def test_offline_hugging_face_is_not_asked(hubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match=r"not whole in Hugging Face's cache .* HF_HUB_OFFLINE forbids to fetch it"):
        resolve_model(ModelArgs(model="owner/none", use_hf=True))


def test_weights_without_a_place_are_left_out_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = load_file(folder / "model.safetensors")
    extra = {**weights, "model.extra.weight": torch.ones(1)}
    save_file(extra, folder / "model.safetensors", metadata={"format": "pt"})
    load_model(ModelArgs(model=str(folder)))
    assert "1 weights have no place in the model and are left out, such as model.extra.weight" in caplog.text


def empty(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def overwrite(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def lose_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001-of-00002.safetensors").touch()


def make_adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    Swift.prepare_model(tiny_decoder(), LoraConfig(target_modules=["q_proj"])).save_pretrained(folder)


BROKEN_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (empty("config.json"), "has no config.json"),
    "no weights": (empty("model.safetensors"), "has no model.safetensors"),
    "pickled weights": (pickle_weights, "'pytorch_model.bin' is a pickle, which can run code"),
    "a missing shard": (lose_a_shard, "has no model-00002-of-00002.safetensors"),
    "an adapter": (make_adapter, "holds an adapter, no model"),
    "a missing weight": (lose_a_weight, "lacks 1 weights that a LlamaForCausalLM has, such as 'model.norm.weight'"),
    "truncated weights": (truncate, "cannot be (loaded|read)"),
    "a config that is no JSON": (overwrite("config.json", "{"), "cannot be (loaded|read)"),
    "an unknown architecture": (overwrite("config.json", '{"model_type": "wonder"}'), "wonder"),
    "a config of other sizes": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"hidden_size": 32', '"hidden_size": 64')
        ),
        "cannot be (loaded|read)",
    ),
    "code of its own": (
        overwrite("config.json", '{"model_type": "wonder", "auto_map": {"AutoConfig": "wonder.Config"}}'),
        "cannot be loaded.*trust_remote_code",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN_FOLDERS.values(), ids=BROKEN_FOLDERS.keys())
def test_a_broken_folder_is_refused(damage: Callable[[Path], object], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(InvalidModel, match=f"(?s){message}"):
        load_model(ModelArgs(model=str(folder)))
