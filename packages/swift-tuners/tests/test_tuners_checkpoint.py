"""swift.json and the folders around it: written, read, and refused where they are damaged or foreign."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from swift_tuners import LoraConfig, ReFTConfig, Swift, SwiftConfig, TunerEntry
from swift_tuners.checkpoint import FORMAT_VERSION, package_versions
from swift_tuners.errors import CheckpointMismatch, DuplicateName, InvalidCheckpoint, UnknownName
from swift_tuners.testing import answer, disturb, tiny_decoder, toy_mlp, toy_mlp_inputs
from transformers import LlamaConfig, LlamaForCausalLM


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an MLP with two tuners, `default` and `second`."""
    folder = tmp_path_factory.mktemp("saved")
    configs = {"default": LoraConfig(r=2, target_modules=["up"]), "second": LoraConfig(r=2, target_modules=["down"])}
    model = Swift.prepare_model(toy_mlp().eval(), configs)
    disturb(model)
    model.save_pretrained(folder, swift_config=SwiftConfig(base_model="mlp", template="chatml", system="Be brief."))
    return folder


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


def test_swift_json_says_what_it_was_told_and_what_the_model_knows(saved: Path) -> None:
    config = SwiftConfig.read(saved)
    assert (config.base_model, config.template, config.system) == ("mlp", "chatml", "Be brief.")
    assert config.tuners == [
        TunerEntry(name="default", kind="lora", folder="."),
        TunerEntry(name="second", kind="lora", folder="second"),
    ]
    assert config.packages["torch"] == torch.__version__
    # What changes a prompt or a step, where it is installed.
    assert set(package_versions()) <= {
        "swift-tuners",
        "swift-templates",
        "swift-train",
        "torch",
        "transformers",
        "peft",
    }
    assert config.packages == package_versions()
    assert json.loads((saved / "swift.json").read_text())["format_version"] == FORMAT_VERSION


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    config = SwiftConfig(base_model="a/b", base_revision="abc", system="Grüß Gott", packages={"torch": "2"})
    config.response_prefix, config.enable_thinking = "<think>", False
    config.write(tmp_path)
    assert SwiftConfig.read(tmp_path) == config
    assert [file.name for file in tmp_path.iterdir()] == ["swift.json"]


def write_json(value: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "swift.json").write_text(json.dumps(value))


def change(**fields: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "swift.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return damage


def entry(**fields: object) -> dict[str, object]:
    return {"name": "default", "kind": "lora", "folder": ".", **fields}


def cut(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "swift.json is no JSON": (lambda folder: (folder / "swift.json").write_text("{"), r"swift\.json' is no JSON"),
    "swift.json is a list": (write_json([1]), "expected a JSON object"),
    "no version": (write_json({"tuners": []}), "format_version None"),
    "a newer version": (change(format_version=99), "a newer version of swift-tuners may read it"),
    "an unknown field": (change(colour="red"), "'colour', which is no field"),
    "a model that is no text": (change(base_model=3), "base_model .* is 3; expected a text or null"),
    "a prefix that is no text": (change(response_prefix=None), "response_prefix .* is None; expected a text"),
    "thinking in words": (change(enable_thinking="yes"), "enable_thinking .* is 'yes'; expected true, false or null"),
    "tuners that are no list": (change(tuners={}), "tuners .* expected a list"),
    "a tuner without folder": (change(tuners=[{"name": "default"}]), "expected name, kind and folder"),
    "a tuner twice": (change(tuners=[entry(), entry()]), "holds a name twice"),
    "a folder outside": (change(tuners=[entry(folder="../other")]), "leads out of the checkpoint"),
    "an absolute folder": (change(tuners=[entry(folder="/etc")]), "leads out of the checkpoint"),
    "a tuner that is not there": (change(tuners=[entry(folder="third")]), "the checkpoint is incomplete"),
    "no tuners": (change(tuners=[]), "holds no tuner"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "does not exist"),
    "truncated weights": (cut("adapter_model.safetensors"), "truncated"),
    "foreign weights": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"PK\x03\x04 a zip file of somebody else's"),
        "truncated or no safetensors file",
    ),
    "a truncated config": (cut("adapter_config.json"), r"adapter_config\.json' is no JSON"),
    "a config of no type": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "names no peft_type"),
    "a config of an unknown type": (
        lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "MAGIC"}'),
        "no config that this version of PEFT reads",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused_and_leaves_the_model_as_it_was(
    damage: Callable[[Path], object], message: str, checkpoint: Path
) -> None:
    model, names = toy_mlp().eval(), [name for name, _ in toy_mlp().named_modules()]
    damage(checkpoint)
    with pytest.raises(InvalidCheckpoint, match=message):
        Swift.from_pretrained(model, checkpoint)
    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp(), toy_mlp_inputs()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_pickled_weights_are_refused_with_the_reason(checkpoint: Path) -> None:
    (checkpoint / "adapter_model.safetensors").rename(checkpoint / "adapter_model.bin")
    with pytest.raises(InvalidCheckpoint, match=r"'adapter_model\.bin' beside it is a pickle, which can run code"):
        Swift.from_pretrained(toy_mlp(), checkpoint)


def test_an_adapter_of_another_base_is_refused_with_shapes_and_base(tmp_path: Path) -> None:
    base = tiny_decoder()
    base.name_or_path = "the/base"
    model = Swift.prepare_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    other = tiny_decoder()
    other.name_or_path = "another/model"
    for layer in other.model.layers:
        layer.self_attn.q_proj = torch.nn.Linear(48, 32, bias=False)
    shapes, bases = (
        r"lora_A\.weight is \(2, 32\) there and \(2, 48\) here",
        "made for 'the/base', this is 'another/model'",
    )
    with pytest.raises(CheckpointMismatch, match=f"{shapes}.*{bases}"):
        Swift.from_pretrained(other, tmp_path)
    assert not hasattr(other, "peft_config")
    with pytest.raises(CheckpointMismatch, match="made for 'the/base', this is 'ToyMLP'"):
        Swift.from_pretrained(toy_mlp(), tmp_path)
    shorter = tiny_decoder()
    del shorter.model.layers[1:]
    with pytest.raises(CheckpointMismatch, match=r"the model has no place for model\.layers\.1"):
        Swift.from_pretrained(shorter, tmp_path)


def test_chosen_tuners_are_loaded_under_chosen_names(saved: Path) -> None:
    assert list(Swift.from_pretrained(toy_mlp(), saved).tuners) == ["default", "second"]
    assert list(Swift.from_pretrained(toy_mlp(), saved, "second").tuners) == ["second"]
    model = Swift.from_pretrained(toy_mlp(), saved, ["default"])
    model = Swift.from_pretrained(model, saved, {"default": "again", "second": "other"})
    assert list(model.tuners) == ["default", "again", "other"]
    with pytest.raises(UnknownName, match="holds no tuner 'secnd'; did you mean 'second'"):
        Swift.from_pretrained(toy_mlp(), saved, "secnd")
    with pytest.raises(DuplicateName):
        Swift.from_pretrained(model, saved, {"second": "new", "default": "again"})
    assert list(model.tuners) == ["default", "again", "other"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no tuner; expected swift.json or adapter_config.json"),
        (["config.json"], "it is a whole model: load it with load_model"),
    ],
)
def test_a_folder_without_tuners_says_what_it_is(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InvalidCheckpoint, match=message):
        Swift.from_pretrained(toy_mlp(), tmp_path)
    with pytest.raises(InvalidCheckpoint, match="is no folder"):
        Swift.from_pretrained(toy_mlp(), tmp_path / "missing")


def change_weights(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, checkpoint: Path) -> None:
    change_weights(checkpoint, lambda tensor: tensor.index_fill(0, torch.tensor([0]), value))
    model = toy_mlp().eval()
    with pytest.raises(InvalidCheckpoint, match=r"values that are not finite, in .*lora_.*; take another checkpoint"):
        Swift.from_pretrained(model, checkpoint)
    assert torch.equal(answer(model, toy_mlp_inputs()), answer(toy_mlp(), toy_mlp_inputs()))


def test_weights_of_another_kind_of_number_are_refused(checkpoint: Path) -> None:
    change_weights(checkpoint, lambda tensor: tensor.to(torch.int32))
    with pytest.raises(CheckpointMismatch, match=r"lora_A\S* is torch.int32 there and torch.float32 here"):
        Swift.from_pretrained(toy_mlp(), checkpoint)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load(dtype: torch.dtype, checkpoint: Path) -> None:
    change_weights(checkpoint, lambda tensor: tensor.to(dtype))
    assert torch.isfinite(answer(Swift.from_pretrained(toy_mlp(), checkpoint), toy_mlp_inputs())).all()


def test_a_tuner_of_ours_that_does_not_fit_names_both_bases(tmp_path: Path) -> None:
    model = Swift.prepare_model(tiny_decoder(), ReFTConfig(layers=[0]))
    model.save_pretrained(tmp_path, swift_config=SwiftConfig(base_model="org/base"))
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    other = LlamaForCausalLM(config)
    with pytest.raises(CheckpointMismatch, match="stands on 'org/base', this is 'LlamaForCausalLM'"):
        Swift.from_pretrained(other, tmp_path)
