"""The harness that kills runs: a run that was killed again and again becomes what one that was left alone did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from swift_train.kill_harness import HarnessFailed, compare_runs, main, run_to_end, run_with_kills
from swift_train.progress import read_log

TRAIN = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "1"
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_tuners.tuners.adalora import AdaLoraArgs
from swift_tuners.tuners.lisa import LISAConfig
from swift_tuners.tuners.lora import LoraArgs
model, rows, tuner, epochs, *words = sys.argv[1:]
given = dict(zip(words[::2], words[1::2]))
tuners = {
    "lora": LoraArgs(dropout=0.1),
    "adalora": AdaLoraArgs(init_r=6, target_r=3, dropout=0.1),
    "lisa": LISAConfig(activated_layers=1, step_interval=4),
}
args = SftArgs(tuner=tuners[tuner])
args.model.model, args.data.dataset, args.model.torch_dtype = model, [rows], "float32"
# Logs and saves fall on different steps, and epochs end between.
args.train = TrainArgs(
    output_dir=given["--output_dir"],
    add_version=False,
    resume_from_checkpoint=given.get("--resume_from_checkpoint"),
    num_train_epochs=int(epochs),
    gradient_accumulation_steps=2,
    logging_steps=2,
    save_steps=3,
    save_total_limit=2,
)
run_sft(args)
"""


def train_command(model: Path, rows: Path, tuner: str, *, epochs: int) -> list[str]:
    return [sys.executable, "-c", TRAIN, str(model), str(rows), tuner, str(epochs)]


def test_three_kills_leave_no_trace(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    command = train_command(model_folder, rows_file, "lora", epochs=6)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_to_end([*command, "--output_dir", str(whole)], whole)
    again = [*command, "--output_dir", str(killed), "--resume_from_checkpoint", "latest"]
    # With this seed one of the kills falls into a save.
    kills = run_with_kills(again, killed, num_kills=3, num_steps=30, seed=1)
    assert len(kills) == 3 and any(kill.while_saving for kill in kills)
    assert [kill.step for kill in kills] == sorted(kill.step for kill in kills)
    # The first step, and each second of 30.
    assert compare_runs(whole, killed) == 16
    assert not list(killed.glob(".checkpoint-*"))


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["lora", "adalora", "lisa"])
def test_twenty_kills_leave_no_trace(
    model_folder: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tuner: str
) -> None:
    num_kills = 20 if tuner == "lora" else 5
    command = train_command(model_folder, rows_file, tuner, epochs=12)
    assert main([str(tmp_path), str(num_kills), "7", "--", *command]) == 0
    assert f"{num_kills} kills, " in capsys.readouterr().out
    assert len(read_log(tmp_path / "killed")) == len(read_log(tmp_path / "whole"))


def test_a_run_that_fails_or_ends_too_early_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(HarnessFailed, match=r"exit code 3; expected 0; it said: out of luck"):
        run_to_end([sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"], tmp_path / "run")
    with pytest.raises(HarnessFailed, match="ended with exit code 0 before kill 1 of 2"):
        run_with_kills([sys.executable, "-c", ""], tmp_path / "run", num_kills=2, num_steps=9)
    with pytest.raises(HarnessFailed, match="took longer than the time that was given"):
        run_to_end([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "run", timeout_s=0.2)


@pytest.mark.parametrize("words", [[], ["folder", "3", "0", "swift", "sft"], ["folder", "many", "0", "--", "swift"]])
def test_a_wrong_command_line_says_what_is_expected(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "expected FOLDER NUM_KILLS SEED -- COMMAND ..." in capsys.readouterr().err
