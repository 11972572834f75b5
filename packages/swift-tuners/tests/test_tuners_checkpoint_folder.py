"""From a folder that a user points at to what is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from swift_tuners import ModelArgs, Swift, SwiftConfig, load_model
from swift_tuners.checkpoint import package_versions
from swift_tuners.checkpoint_folder import (
    attach_adapters,
    choose_base,
    describe_base,
    fill_options,
    find_checkpoint,
    read_record,
    without_written,
)
from swift_tuners.errors import InvalidCheckpoint, UntrustedModel
from swift_tuners.quantizer_args import QuantizationArgs
from swift_tuners.testing import tiny_decoder
from swift_tuners.tuner import JSON
from torch import nn


def toy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def save_tuned(folder: Path, *, seed: int, names: tuple[str, ...] = ("default",)) -> torch.Tensor:
    """Save a tuned toy model, and return what it answers."""
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False)
    model = Swift.prepare_model(toy(), dict.fromkeys(names, config))
    Swift.save(model, folder)
    answer: torch.Tensor = model(torch.ones(1, 4))
    return answer.detach()


def test_the_newest_complete_checkpoint_of_a_run_is_found(tmp_path: Path) -> None:
    for step in (9, 10):
        save_tuned(tmp_path / f"checkpoint-{step}", seed=step)
    (tmp_path / "checkpoint-11").mkdir()
    # Characters that Python takes for digits, and one that int() does not.
    for name in ("checkpoint-²", "checkpoint-٩٩", "checkpoint-12x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "swift.json").write_text("{}")
    assert find_checkpoint(tmp_path).name == "checkpoint-10"
    assert find_checkpoint(tmp_path / "checkpoint-9").name == "checkpoint-9"


@pytest.mark.parametrize(("name", "message"), [("", "neither a checkpoint nor a run"), ("gone", "not a folder")])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=message):
        find_checkpoint(tmp_path / name)


def test_an_adapter_of_pefts_names_its_base(tmp_path: Path) -> None:
    model = get_peft_model(toy(), LoraConfig(r=2, target_modules=["0"], base_model_name_or_path="org/base"))
    model.peft_config["default"].base_model_name_or_path = "org/base"
    model.save_pretrained(str(tmp_path))
    record = read_record(tmp_path)
    assert (record.base_model, record.base_use_hf, len(record.tuners)) == ("org/base", True, 1)
    assert choose_base(ModelArgs(), record).model == "org/base"


def test_the_users_model_wins_then_the_recorded_folder_then_the_name(tmp_path: Path) -> None:
    record = SwiftConfig(base_model="org/base", base_revision="abc", base_folder=str(tmp_path))
    assert choose_base(ModelArgs(model="mine"), record).model == "mine"
    assert choose_base(ModelArgs(), record).model == str(tmp_path)
    moved = SwiftConfig(
        base_model="org/base", base_revision="abc", base_folder=str(tmp_path / "gone"), base_use_hf=True
    )
    chosen = choose_base(ModelArgs(), moved)
    assert (chosen.model, chosen.model_revision, chosen.use_hf) == ("org/base", "abc", True)
    with pytest.raises(InvalidCheckpoint, match="name it with --model"):
        choose_base(ModelArgs(), SwiftConfig())


def test_the_default_model_wins_too_where_the_user_names_it() -> None:
    given = ModelArgs(model="smollm2-135m-instruct")
    assert choose_base(given, SwiftConfig(base_model="org/base")) == given


def test_a_revision_that_the_user_names_is_one_of_the_recorded_id(tmp_path: Path) -> None:
    record = SwiftConfig(base_model="org/base", base_revision="abc", base_folder=str(tmp_path))
    chosen = choose_base(ModelArgs(model_revision="other"), record)
    assert (chosen.model, chosen.model_revision) == ("org/base", "other")


def test_a_checkpoint_does_not_choose_whose_code_runs(tmp_path: Path) -> None:
    for record in (SwiftConfig(base_model="org/base"), SwiftConfig(base_folder=str(tmp_path))):
        with pytest.raises(UntrustedModel, match="if you trust that model, name it with --model"):
            choose_base(ModelArgs(trust_remote_code=True), record)
    given = ModelArgs(model="org/base", trust_remote_code=True)
    assert choose_base(given, SwiftConfig(base_model="org/other")) == given


def test_a_base_in_its_recorded_folder_keeps_its_recorded_name(tmp_path: Path) -> None:
    tiny_decoder().save_pretrained(tmp_path)
    folder = str(tmp_path.resolve())
    record = SwiftConfig(base_model="org/base", base_revision="abc", base_use_hf=True, base_folder=folder, system="Hi")
    loaded = load_model(choose_base(ModelArgs(use_hf=True), record))
    assert loaded.name == folder
    assert describe_base(loaded, record) == SwiftConfig(
        base_model="org/base",
        base_revision="abc",
        base_use_hf=True,
        base_folder=folder,
        packages=package_versions(),
    )
    # Without a record, or with that of another base, it is what was loaded.
    moved = SwiftConfig(base_model="org/base", base_revision="abc", base_folder=str(tmp_path / "gone"))
    for other in (None, moved):
        config = describe_base(loaded, other)
        assert (config.base_model, config.base_revision, config.base_use_hf) == (folder, None, False)


def test_several_checkpoints_are_attached_under_their_names(tmp_path: Path) -> None:
    first = save_tuned(tmp_path / "a", seed=1)
    both = save_tuned(tmp_path / "b", seed=2, names=("default", "more"))
    model, names = attach_adapters(toy(), {"one": tmp_path / "a", "two": tmp_path / "b"})
    assert names == {"one": ["one"], "two": ["two-default", "two-more"]}
    assert not model.active_tuners
    model.set_active_tuners(names["one"])
    assert torch.equal(model(torch.ones(1, 4)), first)
    model.set_active_tuners(names["two"])
    # The two tuners' updates are added in another order than when they were saved.
    torch.testing.assert_close(model(torch.ones(1, 4)), both)
    model.set_active_tuners([])
    assert torch.equal(model(torch.ones(1, 4)), toy()(torch.ones(1, 4)))


def test_options_that_change_the_answers_are_filled_in_where_they_are_left_open(tmp_path: Path) -> None:
    record = SwiftConfig(base_model="a/b", base_options={"rope_scaling": "yarn", "max_model_len": 8, "quant_bits": 4})
    record.write(tmp_path)
    record = SwiftConfig.read(tmp_path)
    chosen = choose_base(ModelArgs(max_model_len=16), record)
    assert (chosen.rope_scaling, chosen.max_model_len) == ("yarn", 16)
    assert fill_options(QuantizationArgs(), record) == QuantizationArgs(quant_bits=4)
    assert without_written(chosen) == ModelArgs(model="a/b")


@pytest.mark.parametrize("options", [{"trust_remote_code": True}, ["rope_scaling"]])
def test_other_options_in_a_record_are_refused(options: object, tmp_path: Path) -> None:
    (tmp_path / "swift.json").write_text(json.dumps({"format_version": 2, "base_options": options}))
    with pytest.raises(InvalidCheckpoint, match="base_options"):
        SwiftConfig.read(tmp_path)


@pytest.mark.parametrize(
    "options", [{"rope_scaling": 3}, {"max_model_len": "8"}, {"new_special_tokens": [1]}, {"task_type": "embedding"}]
)
def test_a_recorded_value_of_another_type_is_refused(options: dict[str, JSON]) -> None:
    with pytest.raises(InvalidCheckpoint, match="expected"):
        choose_base(ModelArgs(), SwiftConfig(base_model="a/b", base_options=options))
