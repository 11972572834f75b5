"""A run goes on with another number of processes than it was saved by, also where these share out the weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from swift_train.checkpoints import check_checkpoint, find_checkpoints
from swift_train.kill_harness import compare_runs
from swift_train.progress import read_log

TRAIN = """
import sys
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_tuners.tuners.lora import LoraArgs
model, rows, output, dropout, max_steps, resume = sys.argv[1:]
args = SftArgs(tuner=LoraArgs(dropout=float(dropout)))
args.model.model, args.data.dataset, args.model.torch_dtype = model, [rows], "float32"
args.train = TrainArgs(
    output_dir=output,
    add_version=False,
    max_steps=int(max_steps),
    logging_steps=1,
    save_steps=3,
    learning_rate=1e-3,
    resume_from_checkpoint=resume or None,
)
run_sft(args)
"""

SHARDED = """
import sys
from pathlib import Path
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from swift_train.optimizer_state import is_shared_out, load_whole_state, whole_state
from swift_train.state_files import read_state, write_state

folder, first, last, saves = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "save"
torch.distributed.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
if first:
    model.load_state_dict(read_state(folder, "model"))
fully_shard(model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
assert is_shared_out(optimizer)
if first:
    load_whole_state(optimizer, read_state(folder, "optimizer"))
for step in range(first, last):
    # Each process sees the same, so that the mean of gradients is the gradient.
    model(torch.randn(4, 6, generator=torch.Generator().manual_seed(step))).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
state = whole_state(optimizer)
weights = {name: each.full_tensor() for name, each in model.state_dict().items()}
if torch.distributed.get_rank() == 0 and saves:
    write_state(state, folder, "optimizer")
    write_state(weights, folder, "model")
torch.distributed.destroy_process_group()
"""


def torchrun(script: Path, words: list[str], *, processes: int) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, str(script), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_torchrun(script: Path, words: list[str], *, processes: int) -> str:
    process = torchrun(script, words, processes=processes)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def train(
    model: Path, rows: Path, output: Path, *, processes: int, dropout: float = 0.0, resume: Path | None = None
) -> Path:
    script = output.parent / "train.py"
    script.write_text(TRAIN, encoding="utf-8")
    words = [str(model), str(rows), str(output), str(dropout), "6", str(resume or "")]
    run_torchrun(script, words, processes=processes)
    return output if resume is None else resume.parent


def losses(run: Path) -> list[float]:
    return [float(str(line["loss"])) for line in read_log(run) if "loss" in line]


@pytest.mark.slow
def test_a_run_goes_on_with_more_and_with_fewer_processes(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    two = train(model_folder, rows_file, tmp_path / "two", processes=2)
    one = train(model_folder, rows_file, tmp_path / "one", processes=1)
    for whole, processes in ((two, 1), (one, 2)):
        part = tmp_path / f"{whole.name}-then-{processes}"
        shutil.copytree(whole, part)
        train(model_folder, rows_file, tmp_path / "x", processes=processes, resume=part / "checkpoint-3")
        # float32 sums in another order: 1e-6 of a loss of about 7, after three steps of Adam.
        assert losses(part) == pytest.approx(losses(whole), rel=2e-6)
        assert len(losses(part)) == 6
        check_checkpoint(part / "checkpoint-6")
    assert losses(one) == pytest.approx(losses(two), rel=2e-6)


@pytest.mark.slow
def test_each_process_goes_on_with_its_own_dropout(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    whole = train(model_folder, rows_file, tmp_path / "whole", processes=2, dropout=0.2)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    train(model_folder, rows_file, tmp_path / "x", processes=2, dropout=0.2, resume=part / "checkpoint-3")
    # Two numbers have one sum in either order, so this is equal to the bit.
    assert compare_runs(whole, part) == 6


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_the_last_step(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    script, output = tmp_path / "train.py", tmp_path / "run"
    script.write_text(TRAIN, encoding="utf-8")
    process = torchrun(script, [str(model_folder), str(rows_file), str(output), "0", "100000", ""], processes=2)
    deadline = time.monotonic() + 120
    while not find_checkpoints(output) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    # As a terminal does with Ctrl-C, the launcher and both processes get it; torchrun then hands it on once more.
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    last = find_checkpoints(output)[-1]
    step = int(last.name.removeprefix("checkpoint-"))
    assert f"stopped by SIGTERM after {step} steps" in said
    check_checkpoint(last)
    assert not list(output.glob(".checkpoint-*"))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_sharded_optimizer_is_saved_whole_and_shared_out_anew(tmp_path: Path, before: int, after: int) -> None:
    from swift_train.state_files import read_state

    script = tmp_path / "sharded.py"
    script.write_text(SHARDED, encoding="utf-8")
    for name, parts in {"whole": [(1, 0, 6)], "parts": [(before, 0, 3), (after, 3, 6)]}.items():
        (tmp_path / name).mkdir()
        for processes, first, last in parts:
            run_torchrun(script, [str(tmp_path / name), str(first), str(last), "save"], processes=processes)
    whole, found = (read_state(tmp_path / name, "model") for name in ("whole", "parts"))
    assert isinstance(whole, dict) and isinstance(found, dict)
    for name, weight in whole.items():
        # The mean of two equal float32 gradients is exact, and AdamW acts on each number alone.
        assert weight.equal(found[name])
