"""The main job through the command line, as a user types it: train, ask, merge, repeat; and what a mistake says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from swift_train.args import TrainArgs
from swift_train.optimizer_args import OptimizerArgs
from swift_tuners import ModelArgs, Swift, load_model
from transformers import AutoModelForCausalLM

TRAIN = [
    "--learning_rate",
    "1e-2",
    "--lora_dropout",
    "0",
    "--logging_steps",
    "1",
    "--torch_dtype",
    "float32",
    "--add_version",
    "false",
]


def swift(
    *words: str, processes: int = 1, expected: int = 0, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["SWIFT_CACHE"] = str(cache)
    if processes > 1:
        environment["NPROC_PER_NODE"] = str(processes)
    finished = subprocess.run(
        [sys.executable, "-m", "swift_cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == expected, finished.stdout + finished.stderr
    return finished


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "logging.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="session")
def trained(model_folder: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, global batch 4."""
    output = tmp_path_factory.mktemp("journey") / "run"
    finished = swift(
        "sft", "--model", str(model_folder), "--dataset", str(rows_file), "--gradient_accumulation_steps", "4",
        "--num_train_epochs", "2", "--output_dir", str(output), *TRAIN,
    )  # fmt: skip
    for shown in ("«example", "of them trained", "of 158,", "MiB at the peak", "ask it:", "merge it:"):
        assert shown.replace("of 158,", "train (") in finished.stdout
    return output


def test_a_run_leaves_everything_that_the_next_step_needs(trained: Path) -> None:
    checkpoint = trained / "checkpoint-6"
    written = {file.name for file in [*trained.iterdir(), *checkpoint.iterdir()]}
    assert {
        "args.yaml",
        "logging.jsonl",
        "loss.png",
        "swift.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    } <= written
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")
    curve = losses(trained)
    assert len(curve) == 6 and curve[-1] < curve[0]


def test_its_yaml_repeats_the_run(trained: Path, tmp_path: Path) -> None:
    swift("sft", str(trained / "args.yaml"), "--output_dir", str(tmp_path / "again"))
    assert losses(tmp_path / "again") == losses(trained)


def test_two_processes_give_the_loss_curve_of_one(
    trained: Path, model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    swift(
        "sft", "--model", str(model_folder), "--dataset", str(rows_file), "--gradient_accumulation_steps", "2",
        "--num_train_epochs", "2", "--output_dir", str(tmp_path / "two"), *TRAIN, processes=2,
    )  # fmt: skip
    # float32 sums in another order. Ten rows in global batches of four: the last step of an epoch is half full.
    assert losses(tmp_path / "two") == pytest.approx(losses(trained), rel=1e-5)


def test_layers_that_change_from_step_to_step_train_alike_on_two_processes(
    model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    for processes, accumulation in ((1, "4"), (2, "2")):
        swift(
            "sft", "--model", str(model_folder), "--dataset", str(rows_file), "--tuner", "lisa", "--add_version",
            "false", "--gradient_accumulation_steps", accumulation, "--max_steps", "5", "--logging_steps", "1",
            "--activated_layers", "1", "--step_interval", "2", "--learning_rate", "1e-2", "--torch_dtype", "float32",
            "--output_dir", str(tmp_path / str(processes)), processes=processes,
        )  # fmt: skip
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)


def test_plain_peft_loads_the_adapter_and_gives_the_same_logits(trained: Path, model_folder: Path) -> None:
    ids = torch.randint(512, (2, 17), generator=torch.Generator().manual_seed(0))
    loaded = load_model(ModelArgs(model=str(model_folder), torch_dtype="float32")).model
    ours = Swift.from_pretrained(loaded, trained / "checkpoint-6").eval()
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, trained / "checkpoint-6").eval()
    with torch.no_grad():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)


def test_adapter_and_merged_model_answer_alike(trained: Path, tmp_path: Path) -> None:
    ask = ["--prompt", "What is this?", "--max_new_tokens", "12", "--torch_dtype", "float32"]
    tuned = swift("infer", "--ckpt_dir", str(trained), *ask).stdout
    merged = tmp_path / "merged"
    report = swift("export", "--ckpt_dir", str(trained), "--merge_lora", "true", "--output_dir", str(merged)).stdout
    assert "are chosen alike" in report
    assert swift("infer", "--ckpt_dir", str(merged), *ask, "--stream", "false").stdout == tuned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "missing.jsonl"], "missing.jsonl"),
        (["--dataset", "{rows}", "--model", "smollm2-135m-instrct"], "did you mean 'smollm2-135m-instruct'"),
        (["--dataset", "{rows}", "--model", "{empty}"], "config.json"),
        (["--dataset", "{rows}", "--tuner", "lorra"], "did you mean 'lora'"),
        (["--dataset", "{rows}", "--learning_rat", "1"], "--learning_rate"),
        (["--dataset", "{rows}", "--learning_rate", "abc"], "abc"),
        (["--dataset", "{bad}"], "bad.jsonl:2"),
        (["--dataset", "{rows}", "--max_length", "3"], "the longest has"),
        (["--dataset", "{rows}", "--add_version", "false", "--output_dir", "{taken}"], "holds another run"),
        (["--dataset", "{rows}", "--template", "chatlm"], "'chatml'?"),
        (["--dataset", "{rows}", "--target_modules", "q_prj"], "q_proj"),
        ([], "no --dataset"),
    ],
    ids=[
        "missing file", "model", "model folder", "tuner", "flag", "value", "row", "length", "output folder", "template",
        "targets", "nothing",
    ],
)  # fmt: skip
def test_a_mistake_is_one_paragraph_and_exit_code_2(
    words: list[str], said: str, model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("empty", "taken")}
    for folder in places.values():
        folder.mkdir()
    (places["taken"] / "args.yaml").touch()
    bad = tmp_path / "bad.jsonl"
    bad.write_text(rows_file.read_text(encoding="utf-8").splitlines()[0] + "\n{not json\n", encoding="utf-8")
    filled = [word.format(rows=rows_file, bad=bad, **places) for word in words]
    model = [] if "--model" in words else ["--model", str(model_folder)]
    output = [] if "--output_dir" in words else ["--output_dir", str(tmp_path / "out")]
    # Nothing is found in a cache of its own, which would be said too.
    finished = swift("sft", *filled, *model, *output, expected=2, cache=tmp_path / "cache")
    assert said in finished.stderr, finished.stderr
    message = finished.stderr
    assert "Traceback" not in message and "\n\n" not in message.strip()
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_defaults_are_those_that_users_know() -> None:
    # Names and defaults of ms-swift, where ours mean the same.
    known = {
        "learning_rate": None,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 1,
        "weight_decay": 0.1,
    }
    known |= {
        "max_grad_norm": 1,
        "logging_steps": 5,
        "save_steps": 500,
        "seed": 42,
        "add_version": True,
    }
    args = TrainArgs()
    assert {name: getattr(args, name) for name in known} == known
    optimizer = {"optim": "adamw_torch_fused", "adam_beta2": 0.95, "galore_rank": 128, "galore_update_proj_gap": 50}
    assert {name: getattr(OptimizerArgs(), name) for name in optimizer} == optimizer
    # Where the memory does not ask for it, checkpointing costs a third more time for nothing.
    assert args.gradient_checkpointing is None
