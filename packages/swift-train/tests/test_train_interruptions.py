"""A killed run loses nothing that it had saved."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_train.checkpoints import check_checkpoint, find_checkpoints
from swift_train.errors import BrokenCheckpoint, InvalidTrainArgs
from swift_tuners.tuners.lora import LoraArgs

RUN = """
import resource, signal, sys, threading, time
from pathlib import Path
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
model, rows, output, most_bytes = sys.argv[1:]

def fill_disk():
    # The nearest thing to a full disk that a test can make: no file of this process may grow larger.
    while not Path(output, "checkpoint-2", "manifest.json").exists():
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))

# A shell's background jobs, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if int(most_bytes):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    threading.Thread(target=fill_disk, daemon=True).start()
args = SftArgs()
args.model.model, args.data.dataset = model, [rows]
args.train = TrainArgs(output_dir=output, add_version=False, max_steps=100_000, save_steps=2)
run_sft(args)
"""


def start(model: Path, rows: Path, output: Path, *, most_bytes: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(model), str(rows), str(output), str(most_bytes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "logging.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    def run(output: Path, **train: object) -> Path:
        args = SftArgs(tuner=LoraArgs(dropout=0.1))
        args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
        args.model.torch_dtype = "float32"
        options = {
            "num_train_epochs": 3,
            "gradient_accumulation_steps": 2,
            "logging_steps": 1,
            "save_steps": 7,
            **train,
        }
        args.train = TrainArgs(output_dir=str(output), add_version=False, **options)  # type: ignore[arg-type]  # options of a test
        return run_sft(args).folder

    whole = losses(run(tmp_path / "whole", save_total_limit=1))
    assert [each.name for each in find_checkpoints(tmp_path / "whole")] == ["checkpoint-15"]
    # Step 7 lies inside the second of three epochs of five steps.
    stopped = run(tmp_path / "stopped")
    resumed = run(tmp_path / "unused", resume_from_checkpoint=str(stopped / "checkpoint-7"))
    assert resumed == stopped.resolve()
    # Equal to the bit: weights, optimizer, schedule, order and dropout all went on; and no step is logged twice.
    assert losses(resumed) == whole
    assert len((resumed / "logging.jsonl").read_text(encoding="utf-8").splitlines()) == len(whole) + 1


def test_a_resumed_run_reports_its_own_last_checkpoint(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = SftArgs()
    args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
    args.train = TrainArgs(output_dir=str(tmp_path / "run"), add_version=False, max_steps=6, save_steps=2)
    records: list[Path] = []
    run_sft(args, on_output_dir=records.append)
    args.train.resume_from_checkpoint, args.train.max_steps = str(tmp_path / "run" / "checkpoint-2"), 4
    assert run_sft(args, on_output_dir=records.append).checkpoint.name == "checkpoint-4"
    check_checkpoint(tmp_path / "run" / "checkpoint-4")
    # The first run's record stays.
    assert [each.name for each in records] == ["run", "resumed-at-checkpoint-2"]


def test_ctrl_c_leaves_the_last_checkpoint_usable(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(model_folder, rows_file, output)
    deadline = time.monotonic() + 120
    while not find_checkpoints(output) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    last = find_checkpoints(output)[-1]
    assert f"go on with --resume_from_checkpoint {last}" in said
    assert {each.name for each in output.glob("checkpoint-*")} == {each.name for each in find_checkpoints(output)}


def test_a_full_disk_leaves_the_last_checkpoint_usable(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(model_folder, rows_file, output, most_bytes=4096)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search(r"CheckpointNotWritten: the checkpoint of step \d+ could not be written", said)
    last = find_checkpoints(output)[-1]
    assert f"The last complete checkpoint is {last}" in said
    assert {each.name for each in output.glob("checkpoint-*")} == {each.name for each in find_checkpoints(output)}
    check_checkpoint(last)


def test_resuming_from_an_unfinished_checkpoint_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    args = SftArgs()
    args.data.dataset = ["unused.jsonl"]
    args.train.resume_from_checkpoint = str(tmp_path / "checkpoint-5")
    with pytest.raises(BrokenCheckpoint, match="was not finished"):
        run_sft(args)


def test_a_finished_run_or_another_base_is_not_resumed(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = SftArgs()
    args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
    args.train = TrainArgs(output_dir=str(tmp_path / "run"), add_version=False, max_steps=2)
    args.train.resume_from_checkpoint = str(run_sft(args).checkpoint)
    with pytest.raises(InvalidTrainArgs, match=r"has done 2 steps .* nothing is left to train"):
        run_sft(args)
    moved = tmp_path / "moved"
    shutil.copytree(model_folder, moved)
    args.model.model, args.train.max_steps = str(moved), 4
    with pytest.raises(InvalidTrainArgs, match="name the same --model"):
        run_sft(args)
