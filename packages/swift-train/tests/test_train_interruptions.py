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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_train.checkpoints import check_checkpoint, find_checkpoints
from swift_train.errors import BrokenCheckpoint, InvalidTrainArgs
from swift_train.kill_harness import RunsDiffer, compare_runs
from swift_train.progress import read_log
from swift_train.resuming import ForeignCheckpoint
from swift_tuners.args import TunerArgs
from swift_tuners.tuners.adalora import AdaLoraArgs
from swift_tuners.tuners.full import FullConfig
from swift_tuners.tuners.lisa import LISAConfig
from swift_tuners.tuners.lora import LoraArgs

RUN = """
import resource, signal, sys, threading, time
from pathlib import Path
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
model, rows, output, most_bytes, in_background = sys.argv[1:]

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
args.train.async_save = in_background == "true"
run_sft(args)
"""

# Each with a schedule that is in its middle at step 7 of 15.
TUNERS: dict[str, Callable[[], TunerArgs]] = {
    "lora": lambda: LoraArgs(dropout=0.1),
    "adalora": lambda: AdaLoraArgs(init_r=8, target_r=2, tinit=2, tfinal=3, delta_t=2, dropout=0.1),
    "lisa": lambda: LISAConfig(activated_layers=1, step_interval=3),
    "full": FullConfig,
}


def start(
    model: Path, rows: Path, output: Path, *, most_bytes: int = 0, in_background: str = "true"
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(model), str(rows), str(output), str(most_bytes), in_background]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def make_args(model: Path, rows: Path, output: Path, *, tuner: TunerArgs | None = None, **train: Any) -> SftArgs:  # noqa: ANN401  # options of a test
    args = SftArgs(tuner=tuner or LoraArgs())
    args.model.model, args.data.dataset = str(model), [str(rows)]
    args.model.torch_dtype = "float32"
    args.train = TrainArgs(output_dir=str(output), add_version=False, **train)
    return args


@pytest.mark.parametrize("in_background", [True, False], ids=["in background", "waiting"])
@pytest.mark.parametrize("tuner", TUNERS)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(
    model_folder: Path, rows_file: Path, tmp_path: Path, tuner: str, in_background: bool
) -> None:
    # A log line has the mean loss of two steps, and step 7 lies between them, inside the second of three epochs.
    options = {"gradient_accumulation_steps": 2, "logging_steps": 2, "save_steps": 7, "async_save": in_background}
    args = make_args(model_folder, rows_file, tmp_path / "whole", tuner=TUNERS[tuner](), **options)
    whole = run_sft(args).folder
    assert [each.name for each in find_checkpoints(whole)] == ["checkpoint-7", "checkpoint-14", "checkpoint-15"]
    shutil.copytree(whole, tmp_path / "stopped")
    args.train.output_dir, args.train.save_total_limit = str(tmp_path / "unused"), 1
    args.train.resume_from_checkpoint = str(tmp_path / "stopped" / "checkpoint-7")
    resumed = run_sft(args).folder
    assert resumed == (tmp_path / "stopped").resolve()
    assert [each.name for each in find_checkpoints(resumed)] == ["checkpoint-15"]
    # Equal to the bit: weights, optimizer, schedules, order and dropout all went on; and no step is logged twice.
    # Steps 1, 2, 4, ... 14 are logged.
    assert compare_runs(whole, resumed) == 8
    assert len(read_log(resumed)) == len(read_log(whole))


def test_a_log_line_that_a_killed_run_left_unfinished_is_forgotten(
    model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    args = make_args(model_folder, rows_file, tmp_path / "run", max_steps=6, save_steps=2, logging_steps=1)
    whole = run_sft(args).folder
    shutil.copytree(whole, tmp_path / "copy")
    log = tmp_path / "copy" / "logging.jsonl"
    log.write_text(log.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    args.train.resume_from_checkpoint = str(tmp_path / "copy" / "checkpoint-4")
    compare_runs(whole, run_sft(args).folder)


def test_latest_passes_over_a_damaged_checkpoint_and_says_so(
    model_folder: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = make_args(
        model_folder, rows_file, tmp_path / "run", max_steps=6, save_steps=2, resume_from_checkpoint="latest"
    )
    whole = run_sft(args).folder
    assert "the run begins anew" in capsys.readouterr().out
    shutil.copytree(whole, tmp_path / "copy")
    with (tmp_path / "copy" / "checkpoint-6" / "optimizer.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    args.train.output_dir = str(tmp_path / "copy")
    run_sft(args)
    said = capsys.readouterr().out
    assert "checkpoint-6' is passed over: it is damaged: optimizer.safetensors holds other bytes" in said
    assert (tmp_path / "copy" / "resumed-at-checkpoint-4").is_dir()
    compare_runs(whole, tmp_path / "copy")


def test_a_resumed_run_reports_its_own_last_checkpoint(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = make_args(model_folder, rows_file, tmp_path / "run", max_steps=6, save_steps=2)
    records: list[Path] = []
    run_sft(args, on_output_dir=records.append)
    args.train.resume_from_checkpoint, args.train.max_steps = str(tmp_path / "run" / "checkpoint-2"), 4
    assert run_sft(args, on_output_dir=records.append).checkpoint.name == "checkpoint-4"
    check_checkpoint(tmp_path / "run" / "checkpoint-4")
    # The first run's record stays.
    assert [each.name for each in records] == ["run", "resumed-at-checkpoint-2"]


@pytest.mark.parametrize(
    ("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_saves_the_last_step_and_leaves_with_a_message(
    model_folder: Path, rows_file: Path, tmp_path: Path, signum: signal.Signals, exit_code: int
) -> None:
    output = tmp_path / "out"
    process = start(model_folder, rows_file, output)
    deadline = time.monotonic() + 120
    while not find_checkpoints(output) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code
    last = find_checkpoints(output)[-1]
    check_checkpoint(last)
    step = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    assert f"stopped by {signum.name} after {step} steps" in said
    assert f"go on with --resume_from_checkpoint {last}" in said
    assert not list(output.glob(".checkpoint-*"))


@pytest.mark.parametrize("in_background", ["true", "false"])
def test_a_full_disk_leaves_the_last_checkpoint_usable(
    model_folder: Path, rows_file: Path, tmp_path: Path, in_background: str
) -> None:
    output = tmp_path / "out"
    process = start(model_folder, rows_file, output, most_bytes=4096, in_background=in_background)
    said, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, 130, 143)
    assert re.search(r"CheckpointNotWritten: the checkpoint of step \d+ could not be written to .*File too large", said)
    last = find_checkpoints(output)[-1]
    assert f"The last complete checkpoint is {last}" in said
    for folder in output.glob("checkpoint-*"):
        check_checkpoint(folder)
    assert not list(output.glob(".checkpoint-*")), "what could not be written is gone"


def test_resuming_from_an_unfinished_checkpoint_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    args = SftArgs()
    args.data.dataset = ["unused.jsonl"]
    args.train.resume_from_checkpoint = str(tmp_path / "checkpoint-5")
    with pytest.raises(BrokenCheckpoint, match="was not finished"):
        run_sft(args)


def test_a_finished_run_or_another_one_is_not_resumed(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = make_args(model_folder, rows_file, tmp_path / "run", max_steps=2, gradient_accumulation_steps=2)
    args.train.resume_from_checkpoint = str(run_sft(args).checkpoint)
    with pytest.raises(InvalidTrainArgs, match=r"has done 2 steps .* nothing is left to train"):
        run_sft(args)
    args.train.max_steps, args.train.gradient_accumulation_steps, args.data.data_seed = 4, 5, 7
    with pytest.raises(
        ForeignCheckpoint, match=r"global_batch is 2 there and 5 here; data_seed is 42 there and 7 here"
    ):
        run_sft(args)
    args.train.gradient_accumulation_steps, args.data.data_seed = 2, 42
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(rows_file.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    args.data.dataset = [str(fewer)]
    with pytest.raises(ForeignCheckpoint, match="num_samples is 10 there and 9 here"):
        run_sft(args)
    moved = tmp_path / "moved"
    shutil.copytree(model_folder, moved)
    args.model.model, args.data.dataset = str(moved), [str(rows_file)]
    with pytest.raises(InvalidTrainArgs, match="name the same --model"):
        run_sft(args)


def test_other_weights_and_another_curve_are_told_apart(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> Path:
        args = make_args(model_folder, rows_file, tmp_path / name, max_steps=2, logging_steps=1, seed=seed)
        return run_sft(args).folder

    first, again = run("first", 1), run("again", 1)
    assert compare_runs(first, again) == 2
    with pytest.raises(RunsDiffer, match=r"\(\d, 'loss'\) is .* instead of"):
        compare_runs(first, run("other", 2))
    weights = again / "checkpoint-2" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with pytest.raises(RunsDiffer, match=r"checkpoint-2/adapter_model.safetensors differs"):
        compare_runs(first, again)
