"""Teach a real language model thirty facts that it does not know, and measure what it learned.

Every step is a command that you can type yourself; the script prints it before it runs it. Run it with `make demo`, or
with `python examples/demo/demo.py` where the packages are installed.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from swift_data.rewards.contains import Contains

MODEL = "smollm2-135m-instruct"
OUTPUT = Path("output") / "demo"
HELD_OUT = "harrowgate:heldout"
NUM_SHOWN = 6


def main() -> None:
    """Ask, train, ask again, merge; print what changed."""
    started = time.monotonic()
    run = OUTPUT / time.strftime("%Y%m%d-%H%M%S")
    before, after, training = run / "before.jsonl", run / "after.jsonl", run / "training"
    print(f"The model, {MODEL}, knows nothing of Harrowgate Light: a lighthouse that we made up.\n")
    ask = [
        "swift",
        "infer",
        "--model",
        MODEL,
        "--val_dataset",
        HELD_OUT,
        "--max_new_tokens",
        "24",
        "--max_batch_size",
        "30",
    ]
    step("1. Ask it 60 questions", [*ask, "--result_path", str(before)])
    step("2. Teach it, in other words than those of the questions", train_command(training))
    checkpoint = find_checkpoint(training)
    step("3. Ask it the same questions again", [*ask, "--ckpt_dir", str(checkpoint), "--result_path", str(after)])
    merged = run / "merged"
    step(
        "4. Fold what it learned into the weights",
        ["swift", "export", "--ckpt_dir", str(checkpoint), "--merge_lora", "true", "--output_dir", str(merged)],
    )
    report(before, after, training)
    print(f"\nAll of it took {(time.monotonic() - started) / 60:.1f} minutes. Now try:")
    print(f"  swift infer --ckpt_dir {checkpoint}                      (a chat with the adapter)")
    print(f"  swift infer --ckpt_dir {merged} --prompt 'Who keeps Harrowgate Light?'")
    print("  swift sft --dataset YOUR.jsonl --output_dir output/mine   (your own rows)")
    print("  swift sft --help")


def train_command(folder: Path) -> list[str]:
    """Return the command that trains, with the settings that suit thirty facts and a few minutes."""
    options = {
        "--model": MODEL,
        "--dataset": "harrowgate",
        "--val_dataset": HELD_OUT,
        "--tuner": "lora",
        "--lora_rank": "16",
        "--lora_dropout": "0",
        "--learning_rate": "2e-3",
        "--num_train_epochs": "3",
        "--per_device_train_batch_size": "8",
        "--gradient_accumulation_steps": "1",
        "--eval_on_start": "true",
        "--eval_steps": "28",
        "--output_dir": str(folder),
        "--add_version": "false",
    }
    return ["swift", "sft", *(word for pair in options.items() for word in pair)]


def step(title: str, command: list[str]) -> None:
    """Print a command and run it; a failure ends the demo with its exit code."""
    print(f"\n== {title}\n$ {shlex.join(command)}\n", flush=True)
    # The command that belongs to this Python, whether or not its folder is on the PATH.
    finished = subprocess.run([sys.executable, "-m", "swift_cli", *command[1:]], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def find_checkpoint(training: Path) -> Path:
    """Return the checkpoint that a finished training left."""
    return max(training.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))


def report(before: Path, after: Path, training: Path) -> None:
    """Print held-out loss and answers before and after, and how many answers hold the fact."""
    rows = [list(map(json.loads, file.read_text(encoding="utf-8").splitlines())) for file in (before, after)]
    log = [json.loads(line) for line in (training / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["eval_loss"] for line in log if "eval_loss" in line]
    print("\n== What changed, on questions that it was not trained on\n")
    for first, second in list(zip(*rows, strict=True))[:: len(rows[0]) // NUM_SHOWN][:NUM_SHOWN]:
        print(f"  question  {first['messages'][-1]['content']}")
        print(f"  before    {' '.join(first['response'].split())}")
        print(f"  after     {' '.join(second['response'].split())}\n")
    right = [count_right(each) for each in rows]
    print(f"  answers that hold the fact   before {right[0]} of {len(rows[0])}, after {right[1]} of {len(rows[1])}")
    if right[1] <= right[0]:
        sys.exit("The model learned nothing that the questions show; this is a defect.")
    print(f"  held-out loss                before {losses[0]:.3f}, after {losses[-1]:.3f} nats per token")
    print(f"  loss curve                   {training / 'loss.png'}")


def count_right(rows: list[dict[str, str]]) -> int:
    """Count the answers that contain their fact's key word."""
    answers, solutions = [row["response"] for row in rows], [row["solution"] for row in rows]
    return int(sum(Contains()(answers, solution=solutions)))


if __name__ == "__main__":
    main()
