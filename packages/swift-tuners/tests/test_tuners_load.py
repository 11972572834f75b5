"""Each option of `load_model`, by its effect on a tiny model's numbers; and what options that cannot be say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from swift_tuners import LoadedModel, LoraConfig, ModelArgs, Swift, load_model, resolve_model
from swift_tuners.errors import InvalidModel, MissingDependency, UnsupportedConfig
from swift_tuners.models.auto_class import choose_class
from swift_tuners.models.load import choose_dtype
from swift_tuners.testing import answer, tiny_decoder, tiny_decoder_inputs, tiny_vlm, tiny_vlm_inputs
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Qwen3_5Config,
    dynamic_module_utils,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama of 64 tokens, trained on up to 128."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_decoder().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(saved, tmp_path / "tiny")


def load(folder: Path, **options: Any) -> LoadedModel:  # noqa: ANN401  # options of ModelArgs
    return load_model(ModelArgs(model=str(folder), **{"torch_dtype": "float32", **options}))


def change_config(folder: Path, **fields: Any) -> None:  # noqa: ANN401  # JSON
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# --- type, attention, device


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_weights_have_the_type_asked_for_rounded_once(name: str, saved: Path) -> None:
    model = load(saved, torch_dtype=name).model
    dtype = choose_dtype(name)  # type: ignore[arg-type]  # one of its literals
    expected = load_file(saved / "model.safetensors")
    own = model.state_dict()
    assert all(torch.equal(own[key], value.to(dtype)) for key, value in expected.items())
    assert answer(model, tiny_decoder_inputs()).dtype == dtype


def test_both_attentions_answer_alike(saved: Path) -> None:
    # Two orders of summation in float32: 1e-6 of logits around 1.
    eager, sdpa = (answer(load(saved, attn_impl=name).model, tiny_decoder_inputs()) for name in ("eager", "sdpa"))
    torch.testing.assert_close(eager, sdpa, rtol=0, atol=1e-5)


# ms-swift's name for it is flash_attn.
@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attn"])
def test_attention_that_is_not_installed_is_a_missing_dependency(name: str, saved: Path) -> None:
    with pytest.raises(MissingDependency, match=r"needs a package that is not installed.*[Ff]lash"):
        load(saved, attn_impl=name)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        pytest.param({"device_map": "cpu"}, "cpu", id="a device"),
        pytest.param({"device_map": "auto", "max_memory": {"cpu": "1GiB"}}, "cpu", id="spread"),
        pytest.param({"device_map": '{"": "cpu"}'}, "cpu", id="mapped"),
        pytest.param({"device_map": "meta"}, "meta", id="nowhere"),
    ],
)
def test_weights_are_where_the_device_map_says(options: dict[str, Any], device: str, saved: Path) -> None:
    if torch.cuda.is_available() and options["device_map"] == "auto":
        pytest.skip("the expected device is that of a machine without a GPU")
    model = load(saved, **options).model
    assert {parameter.device.type for parameter in model.parameters()} == {device}
    if device == "cpu":
        assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "gpu"}, "device_map='gpu' is no device of this machine"),
        ({"device_map": "{"}, "is no JSON object"),
        ({"device_map": '{"": true}'}, "puts '' on True"),
        ({"device_map": '{"": "gpu"}'}, "device_map of '', 'gpu', is no device"),
        ({"device_map": "auto", "max_memory": {"gpu": "1GiB"}}, "max_memory names a device 'gpu'"),
        ({"device_map": "auto", "max_memory": {"0": "much"}}, "max_memory of device '0' is 'much'"),
        ({"max_memory": {"0": "1GiB"}}, "device_map is None; expected device_map='auto'"),
        ({"device_map": "{}"}, "device_map='{}' is empty"),
        ({"device_map": '{"": "cpu", "modle": "cpu"}'}, "names 'modle', which is no module .* did you mean 'model'"),
        ({"device_map": '{"model.layers": "cpu"}'}, "has no device for 'model.embed_tokens.weight' and 1 other"),
    ],
)
def test_a_wrong_device_map_is_refused(options: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        load(saved, **options)


def test_several_processes_do_not_each_spread_the_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnsupportedConfig, match="there are 2 processes, each with its own model"):
        load(saved, device_map="auto")


# --- new tokens


def write_tokenizer(folder: Path, *, added: tuple[str, ...] = ("<s>", "</s>"), unigram: bool = False) -> Tokenizer:
    """Write a tokenizer of 60 words, and tokens that were added to it, beside a model of 64 rows."""
    words = [f"w{index}" for index in range(60)]
    tokenizer = Tokenizer(
        Unigram([(word, -1.0) for word in words]) if unigram else WordLevel({w: i for i, w in enumerate(words)}, "w0")
    )
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize("unigram", [False, True], ids=["a dict of words", "pairs of words and scores"])
@pytest.mark.parametrize("added", [(), ("<s>", "</s>"), ("<s>", "w7")], ids=str)
def test_new_tokens_get_the_ids_that_tokenizers_gives_them(unigram: bool, added: tuple[str, ...], folder: Path) -> None:
    tokenizer = write_tokenizer(folder, added=added, unigram=unigram)
    new = ["<tool>", "w3", "</tool>", "</s>"]
    loaded = load(folder, new_special_tokens=new)
    tokenizer.add_special_tokens(new)
    known = {"w3", *added}
    assert loaded.new_tokens == {token: tokenizer.token_to_id(token) for token in new if token not in known}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_new_rows_start_at_the_mean_and_the_others_stay(tied: bool, tmp_path: Path) -> None:
    before = tiny_decoder(tie_word_embeddings=tied)
    before.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    loaded = load(tmp_path, new_special_tokens=["<a>", "<b>", "<c>"])
    # Ids 62 and 63 are rows that the model had to spare; 64 is a new one.
    assert loaded.new_tokens == {"<a>": 62, "<b>": 63, "<c>": 64}
    model = loaded.model
    assert model.config.vocab_size == 65
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    for ask in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, ask)().weight, getattr(model, ask)().weight
        assert torch.equal(new[:62], old[:62])
        torch.testing.assert_close(new[62:], old[:62].mean(dim=0).expand(3, -1), rtol=0, atol=1e-7)
    inputs = {"input_ids": tiny_decoder_inputs()["input_ids"].clamp(max=61)}
    torch.testing.assert_close(answer(model, inputs)[..., :62], answer(before, inputs)[..., :62], rtol=0, atol=1e-6)


def test_loading_new_tokens_again_gives_the_same_rows(folder: Path) -> None:
    write_tokenizer(folder)
    first, second = (load(folder, new_special_tokens=["<a>", "<b>", "<c>"]).model for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_known_tokens_leave_the_model_as_it_is(folder: Path) -> None:
    write_tokenizer(folder)
    loaded = load(folder, new_special_tokens=["<s>", "w1"])
    assert not loaded.new_tokens
    assert torch.equal(answer(loaded.model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


@pytest.mark.parametrize(
    ("tokens", "damage", "error", "message"),
    [
        (["<a>", "<a>"], None, UnsupportedConfig, "holds '<a>' twice"),
        ("<a>", None, UnsupportedConfig, "new_special_tokens is '<a>'; expected a list, each item a text"),
        ([""], None, UnsupportedConfig, "holds an empty text"),
        (["<a>"], Path.unlink, InvalidModel, "has no tokenizer.json, which new_special_tokens needs"),
        (["<a>"], lambda path: path.write_text("{}"), InvalidModel, "is damaged: KeyError"),
    ],
    ids=["twice", "a text", "empty", "no tokenizer", "a damaged tokenizer"],
)
def test_wrong_new_tokens_are_refused(
    tokens: list[str] | str, damage: Callable[[Path], object] | None, error: type[Exception], message: str, folder: Path
) -> None:
    write_tokenizer(folder)
    if damage:
        damage(folder / "tokenizer.json")
    with pytest.raises(error, match=message):
        load(folder, new_special_tokens=tokens)


# --- options of the wrong type


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"torch_dtype": "int8"}, "torch_dtype is 'int8'; expected one of 'auto', 'float32', 'bfloat16', 'float16'"),
        ({"attn_impl": "flash"}, "attn_impl is 'flash'; expected one of 'sdpa', 'eager'.* or None"),
        ({"max_model_len": "128"}, "max_model_len is '128'; expected a whole number or None"),
        ({"use_hf": 1}, "use_hf is 1; expected True or False"),
    ],
)
def test_an_option_of_another_type_is_refused(options: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        load(saved, **options)


# --- what kind of model


def test_a_model_that_reads_pictures_is_loaded_whole(tmp_path: Path) -> None:
    tiny_vlm().save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded.model) is type(tiny_vlm())
    assert torch.equal(answer(loaded.model, tiny_vlm_inputs()), answer(tiny_vlm(), tiny_vlm_inputs()))


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (["Qwen3_5ForConditionalGeneration"], AutoModelForImageTextToText),
        (["Qwen3_5ForCausalLM"], AutoModelForCausalLM),
        (None, AutoModelForImageTextToText),
    ],
)
def test_a_type_with_two_classes_is_loaded_as_its_config_says(architectures: list[str] | None, expected: type) -> None:
    assert choose_class(ModelArgs(), Qwen3_5Config(architectures=architectures)) is expected


def test_a_classifier_has_the_body_of_the_model_and_a_new_head(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load(saved, task_type="seq_cls", num_labels=3, problem_type="multi_label_classification")
    assert loaded.new_modules == ("score",)
    assert "score is new, with random weights; train it" in caplog.text
    assert "left out" not in caplog.text
    body = loaded.model.model.state_dict()
    assert all(torch.equal(body[key], value) for key, value in tiny_decoder().model.state_dict().items())
    assert answer(loaded.model, tiny_decoder_inputs()).shape == (2, 3)
    assert loaded.model.config.problem_type == "multi_label_classification"
    loaded.model.save_pretrained(tmp_path)
    again = load(tmp_path, task_type="seq_cls")
    assert again.new_modules == ()
    assert torch.equal(answer(again.model, tiny_decoder_inputs()), answer(loaded.model, tiny_decoder_inputs()))
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        load(tmp_path, task_type="seq_cls", num_labels=2)


def test_a_classifier_whose_body_is_incomplete_is_refused(folder: Path) -> None:
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(InvalidModel, match=r"lacks 9 weights .* such as 'model\.layers\.2\."):
        load(folder, task_type="seq_cls")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labels": 2}, "num_labels=2 is about classes; it needs task_type='seq_cls'"),
        ({"problem_type": "regression"}, "problem_type='regression' is about classes"),
        ({"task_type": "seq_cls", "num_labels": 0}, "num_labels=0 leaves the classifier no output"),
    ],
)
def test_wrong_options_of_a_classifier_are_refused(options: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        load(saved, **options)


def test_a_model_that_transformers_has_no_classifier_for_is_refused(tmp_path: Path) -> None:
    tiny_vlm().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedConfig, match="no sequence classifier of model type 'llava'"):
        load(tmp_path, task_type="seq_cls")


# --- trust


def pickle_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def test_pickled_weights_are_read_only_if_asked_for(folder: Path) -> None:
    pickle_weights(folder)
    with pytest.raises(InvalidModel, match=r"'pytorch_model\.bin' is a pickle.*--use_safetensors false"):
        load(folder)
    model = load(folder, use_safetensors=False).model
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


def test_pickled_shards_must_all_be_there(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[:5], names[5:]), start=1):
        torch.save({name: weights[name] for name in part}, folder / f"pytorch_model-0000{number}-of-00002.bin")
    places = {name: f"pytorch_model-0000{1 if name in names[:5] else 2}-of-00002.bin" for name in names}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    model = load(folder, use_safetensors=False).model
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(InvalidModel, match=r"has no pytorch_model-00002-of-00002\.bin"):
        load(folder, use_safetensors=False)


def test_safetensors_win_over_pickles(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    model = load(folder, use_safetensors=False).model
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


class RunsCode:
    """What a foreign pickle may hold: it makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_does_not_run_even_if_pickles_are_allowed(folder: Path, tmp_path: Path) -> None:
    pickle_weights(folder)
    torch.save({"model.norm.weight": RunsCode(tmp_path / "proof")}, folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match="cannot be loaded"):
        load(folder, use_safetensors=False)
    assert not (tmp_path / "proof").exists()


def test_pickles_in_a_hubs_cache_serve_only_if_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickle_weights(folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    args = ModelArgs(model="owner/tiny", use_hf=True, use_safetensors=False)
    assert resolve_model(args).revision == commit
    args.use_safetensors = True
    with pytest.raises(FileNotFoundError, match="not whole in Hugging Face's cache"):
        resolve_model(args)


def test_code_of_a_model_runs_only_if_it_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    proof = tmp_path / "proof"
    (folder / "modeling_own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(proof)!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    change_config(folder, model_type="own", architectures=["OwnModel"], auto_map=own)
    with pytest.raises(InvalidModel, match="trust_remote_code"):
        load(folder)
    assert not proof.exists()
    model = load(folder, trust_remote_code=True).model
    assert (proof.exists(), type(model).__name__) == (True, "OwnModel")
    assert torch.equal(answer(model, tiny_decoder_inputs()), answer(tiny_decoder(), tiny_decoder_inputs()))


def test_a_scaled_model_with_new_tokens_is_tuned_and_merged(folder: Path) -> None:
    write_tokenizer(folder)
    loaded = load(folder, rope_scaling="yarn", max_model_len=256, new_special_tokens=["<a>", "<b>", "<c>"])
    model = Swift.prepare_model(loaded.model, LoraConfig(target_modules="all-linear"))
    inputs = {"input_ids": torch.tensor([[5, 64, 7]])}
    before = answer(model, inputs)
    torch.testing.assert_close(answer(model.merge_and_unload(), inputs), before, rtol=0, atol=1e-5)
