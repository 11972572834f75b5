"""A merged model answers as its adapter did, and plain transformers loads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from swift_export import ExportArgs, run_export
from swift_export.errors import ExportNotWritten, InvalidExportArgs, OutputFolderTaken, ParityLost
from swift_export.exporter import EXPORTERS
from swift_export.parity import compare
from swift_export.testing import check_exporter
from swift_tuners import Swift, SwiftConfig
from transformers import AutoModelForCausalLM, AutoTokenizer


def arguments(checkpoint: Path | None, output: Path, **export: object) -> ExportArgs:
    args = ExportArgs()
    args.model.torch_dtype = "float32"
    args.export.ckpt_dir = str(checkpoint) if checkpoint else None
    args.export.output_dir = str(output)
    args.export.merge_lora = True
    for name, value in export.items():
        setattr(args.export, name, value)
    return args


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_every_exporter_keeps_the_laws(name: str, model_folder: Path, adapter_folder: Path, tmp_path: Path) -> None:
    check_exporter(name, model_folder, adapter_folder, tmp_path / "out")


def test_merged_folder_answers_in_plain_transformers(adapter_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    report = run_export(arguments(adapter_folder, tmp_path / "merged"))
    # float32: rounding of W + BA against W x + B A x.
    assert report.same_choice == 1 and report.max_difference < 1e-3
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is this?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    host = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    untuned = host(input_ids=ids).logits
    tuned = Swift.from_pretrained(host, adapter_folder)
    torch.testing.assert_close(merged(input_ids=ids).logits, tuned(input_ids=ids).logits, rtol=1e-3, atol=1e-3)
    assert (untuned - tuned(input_ids=ids).logits).abs().max() > 0.1


def test_a_merged_model_that_answers_otherwise_is_refused(
    adapter_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Damage what is written, as a faulty serializer would.
    def save_damaged(tensors: dict[str, torch.Tensor], path: Path, **options: object) -> None:
        save_file({name: tensor * 1.5 for name, tensor in tensors.items()}, path, metadata={"format": "pt"})

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", save_damaged)
    with pytest.raises(ParityLost, match="kept for inspection"):
        run_export(arguments(adapter_folder, tmp_path / "merged"))
    assert load_file(next((tmp_path / "merged.unfinished").glob("*.safetensors")))
    assert not (tmp_path / "merged").exists()
    # What was kept is not written over.
    with pytest.raises(OutputFolderTaken, match="an earlier export left"):
        run_export(arguments(adapter_folder, tmp_path / "merged"))


def test_a_folder_that_holds_something_is_refused(adapter_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputFolderTaken, match="name another --output_dir"):
        run_export(arguments(adapter_folder, tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_record_names_the_base_as_the_adapters_did(
    adapter_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    run_export(arguments(adapter_folder, tmp_path / "merged"))
    trained, merged = SwiftConfig.read(adapter_folder), SwiftConfig.read(tmp_path / "merged")
    assert (merged.base_model, merged.tuners) == (trained.base_model, []) and merged.base_model == str(model_folder)
    assert "torch" in merged.packages


def test_a_merged_folder_stands_beside_its_checkpoint(
    adapter_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint-20"
    shutil.copytree(adapter_folder, checkpoint)
    monkeypatch.chdir(checkpoint)
    args = arguments(Path("."), tmp_path)
    args.export.output_dir = None
    run_export(args)
    assert (tmp_path / "checkpoint-20-merged" / "config.json").exists()


def test_a_place_that_cannot_be_written_is_named(adapter_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportNotWritten, match="could not be written"):
        run_export(arguments(adapter_folder, tmp_path / "file" / "merged"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"merge_lora": False}, "no export is named"), ({"ckpt_dir": None}, "needs an adapter")],
    ids=["nothing to do", "no adapter"],
)
def test_arguments_that_name_nothing_are_refused(
    change: dict[str, object], message: str, adapter_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidExportArgs, match=message):
        run_export(arguments(adapter_folder, tmp_path / "merged", **change))


def test_a_whole_model_has_nothing_to_merge(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidExportArgs, match="whole model and no adapter"):
        run_export(arguments(model_folder, tmp_path / "merged"))


def test_parity_counts_by_hand() -> None:
    # Two tokens of a vocabulary of two: the first equal, the second with its probabilities exchanged.
    trained = torch.tensor([[0.8, 0.2], [0.8, 0.2]]).log()
    exported = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log()
    report = compare([trained], [exported])
    assert (report.num_prompts, report.num_tokens, report.same_choice) == (1, 2, 0.5)
    assert report.max_difference == pytest.approx(1.3863, abs=1e-4)  # log 4
    assert report.mean_divergence == pytest.approx(0.6 * 1.3863 / 2, abs=1e-4)  # (0.8 - 0.2) log 4, over two tokens
