"""A loss that is not a number: whose it is, and what becomes of the step."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from swift_templates.encoded import Encoded
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_train.divergence import LossGuard, OnNan, find_sample, sum_by_sequence
from swift_train.errors import TrainingDiverged
from swift_train.progress import read_log
from swift_tuners.args import TunerArgs
from swift_tuners.tuners.adalora import AdaLoraArgs
from swift_tuners.tuners.lora import LoraArgs
from transformers import AutoTokenizer

NAN, INF = float("nan"), float("inf")


def name(index: int) -> str:
    return f"rows.jsonl:{index + 1}"


def test_losses_are_summed_by_sequence() -> None:
    logps = torch.tensor([-1.0, -2.0, -4.0, -INF], requires_grad=True)
    weights, sequences = torch.tensor([1.0, 0.5, 2.0, 1.0]), torch.tensor([0, 2, 2, 3])
    # 1 * 1; nothing; 0.5 * 2 + 2 * 4; infinite
    assert sum_by_sequence(logps, weights, sequences).tolist() == [1.0, 0.0, 9.0, INF]
    # The token that stands in a pass of fillers.
    assert sum_by_sequence(torch.tensor([-3.0]), torch.zeros(1), torch.tensor([-1], dtype=torch.int32)).tolist() == [
        0.0
    ]
    assert sum_by_sequence(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long)).tolist() == []


def test_the_sample_and_the_step_are_named_and_the_run_stops() -> None:
    guard = LossGuard("stop", say=print)
    guard.look_into(torch.tensor([1.0, NAN, 2.0, -INF]), name)
    with pytest.raises(
        TrainingDiverged, match=r"loss of step 7 is .*: rows.jsonl:2 \(nan\), rows.jsonl:4 \(-inf\).*--on_nan skip"
    ):
        guard.drops_step(7)


def test_a_step_is_skipped_said_and_counted() -> None:
    said: list[str] = []
    guard = LossGuard("skip", say=said.append)
    assert not guard.drops_step(6) and not guard.has_found
    guard.look_into(torch.tensor([1.0, INF]), name)
    assert [guard.has_found, guard.drops_step(7), guard.has_found] == [True, True, False]
    assert not guard.drops_step(8), "a skipped step is over"
    guard.look_into(torch.tensor([NAN] + [1.0] * 3), name)
    assert guard.drops_step(9)
    assert guard.num_skipped == 2
    assert said[0] == "Step 7 is skipped, 1 so far: the loss is not a finite number: rows.jsonl:2 (inf)."
    assert said[1].startswith("Step 9 is skipped, 2 so far")


def test_a_step_is_dropped_on_all_processes_or_on_none() -> None:
    said: list[str] = []
    guard = LossGuard("skip", say=said.append)
    assert guard.drops_step(3, on_any_process=lambda here: not here) and guard.is_dropping
    assert "another process" in said[0]
    assert not guard.drops_step(4) and not guard.is_dropping


def test_where_every_sample_is_bad_the_weights_are_named() -> None:
    guard = LossGuard("stop", say=print)
    guard.look_into(torch.tensor([NAN, NAN]), name)
    with pytest.raises(TrainingDiverged, match=r"all 2 samples .* the weights rather than a sample; .* rows.jsonl:1"):
        guard.drops_step(1)


def test_many_samples_are_counted_and_a_sum_that_overflows_is_told_from_a_sample() -> None:
    guard = LossGuard("stop", say=print)
    guard.look_into(torch.tensor([1.0] + [NAN] * 5), name)
    guard.look_into(torch.tensor([1e308, 1e308], dtype=torch.float64), name)
    with pytest.raises(TrainingDiverged, match=r"rows.jsonl:4 \(nan\) and 2 more; the sum over a forward pass"):
        guard.drops_step(1)


def test_a_sample_is_found_by_its_tokens() -> None:
    samples = [
        Encoded(input_ids=np.array(ids), labels=np.array(ids), loss_scale=np.ones(len(ids), dtype=np.float32))
        for ids in ([1, 2], [1, 2, 3], [4])
    ]
    assert find_sample(np.array([1, 2, 3]), samples, [0, 1, 2]) == 1
    assert find_sample(np.array([1, 2, 3]), samples, [0, 2]) is None


def poison(model: Path, rows: Path, folder: Path) -> tuple[Path, Path]:
    """Make a model that overflows on one word, and rows of which the fourth has it."""
    shutil.copytree(model, folder / "model")
    tokens = AutoTokenizer.from_pretrained(folder / "model").encode(" this", add_special_tokens=False)
    lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        line["messages"][0]["content"] = "Is this it?" if number == 3 else f"What is {number}?"
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.embed_tokens.weight"][tokens[-1]] = float("inf")
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder / "model", folder / "rows.jsonl"


def run(model: Path, rows: Path, output: Path, *, on_nan: OnNan, tuner: TunerArgs) -> Path:
    args = SftArgs(tuner=tuner)
    args.model.model, args.data.dataset, args.model.torch_dtype = str(model), [str(rows)], "float32"
    args.data.dataset_shuffle = False
    args.train = TrainArgs(
        output_dir=str(output), add_version=False, num_train_epochs=2, gradient_accumulation_steps=2, logging_steps=1
    )
    args.train.on_nan = on_nan
    return run_sft(args).folder


def test_a_run_stops_at_the_sample_and_names_its_line(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    model, rows = poison(model_folder, rows_file, tmp_path)
    # Two rows make a step: the fourth is in the second.
    with pytest.raises(
        TrainingDiverged, match=r"loss of step 2 is not .*: .*rows\.jsonl:4 \(nan\); nothing was trained"
    ):
        run(model, rows, tmp_path / "run", on_nan="stop", tuner=LoraArgs())


@pytest.mark.parametrize("tuner", [LoraArgs(), AdaLoraArgs(init_r=4, target_r=2)], ids=["lora", "adalora"])
def test_a_run_skips_the_step_says_so_and_goes_on(
    model_folder: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tuner: TunerArgs
) -> None:
    model, rows = poison(model_folder, rows_file, tmp_path)
    folder = run(model, rows, tmp_path / "run", on_nan="skip", tuner=tuner)
    said = capsys.readouterr().out
    # In both epochs of five steps.
    assert "Step 2 is skipped, 1 so far" in said and "Step 7 is skipped, 2 so far" in said
    assert said.count("rows.jsonl:4 (nan)") == 2
    lines = {line["step"]: line for line in read_log(folder) if "loss" in line}
    assert [lines[step].get("skipped_steps") for step in (1, 2, 3, 6, 7, 10)] == [None, 1, 1, 1, 2, 2]
    assert all(math.isfinite(float(str(line["loss"]))) for line in lines.values())
    weights = load_file(folder / "checkpoint-10" / "adapter_model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
