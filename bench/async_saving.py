"""How long a step waits for a checkpoint of 135 million trained parameters with AdamW's state.

    python bench/async_saving.py              # four saves of each kind, in a folder beside the script
    python bench/async_saving.py FOLDER 6

A random model of SmolLM2-135M's sizes is trained in full on a few tokens, and every second step is saved: while
training waits, then in the background. Printed are the median seconds that the step waited, their share, the seconds
until the checkpoint was whole, and how much slower the step is that runs meanwhile. The machine decides about the
figures, the disk most of all, so they are printed and not checked; the two kinds alternate.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from swift_train.checkpoints import check_checkpoint, find_checkpoints
from swift_train.resuming import RunFingerprint
from swift_train.run_state import SavingSettings, UnkillableSaving
from swift_tuners import Swift
from swift_tuners.tuners.full import FullConfig
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

MIB = 2**20
RUN = RunFingerprint(
    base_model="random",
    base_revision=None,
    algorithm="sft",
    dataset="",
    num_samples=1,
    packing_length=None,
    global_batch=1,
    data_seed=None,
)


@dataclass
class Timings:
    """Seconds of one kind of saving."""

    waited: list[float] = field(default_factory=list)
    until_whole: list[float] = field(default_factory=list)
    next_step: list[float] = field(default_factory=list)


class TimedTrainer(UnkillableSaving):
    """Takes the time that each save stops the loop, and alternates between the two kinds."""

    def __init__(self, model: nn.Module, arguments: TrainingArguments, rows: Sequence[dict[str, Tensor]]) -> None:
        super().__init__(model=model, args=arguments, train_dataset=rows)
        self.timings = {False: Timings(), True: Timings()}

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        in_background = not self.saving.in_background
        self.saving = replace(self.saving, in_background=in_background)
        began = time.perf_counter()
        super()._save_checkpoint(model, trial)
        self.timings[in_background].waited.append(time.perf_counter() - began)
        self.began = began

    def finish_save(self) -> None:
        """Take the time until the checkpoint that was begun last is whole."""
        self._writer.wait()
        if self.saving.in_background:
            self.timings[True].until_whole.append(time.perf_counter() - self.began)


class StepTimes(TrainerCallback):
    """Takes the time of the step after each save, then waits for that save, so that no two disturb each other."""

    def __init__(self, trainer: TimedTrainer) -> None:
        self.trainer = trainer
        self.began = 0.0
        self.undisturbed: list[float] = []

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Note when it begins."""
        self.began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Note how long it took."""
        seconds = time.perf_counter() - self.began
        if state.global_step % 2 == 0 or state.global_step == 1:
            self.undisturbed.append(seconds)
            return
        self.trainer.timings[bool(self.trainer.saving.in_background)].next_step.append(seconds)
        self.trainer.finish_save()


def main(folder: Path, num_saves: int) -> None:
    """Train, save and print."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Swift.prepare_model(LlamaForCausalLM(config), FullConfig(restorable=False))
    ids = torch.randint(config.vocab_size, (8,))
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        # After the last save comes one more step.
        max_steps=4 * num_saves + 1,
        save_steps=2,
        logging_steps=1000,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )
    trainer = TimedTrainer(model, arguments, [{"input_ids": ids, "labels": ids}] * (4 * num_saves + 1))
    trainer.set_up_saving(
        SavingSettings(
            save=partial(model.save_pretrained), fingerprint=RUN, keep=1, in_background=True, say=lambda _: None
        )
    )
    steps = StepTimes(trainer)
    trainer.add_callback(steps)
    trainer.train_safely(None)
    (last,) = find_checkpoints(folder)
    check_checkpoint(last)
    report(trainer, steps, sum(each.stat().st_size for each in last.rglob("*") if each.is_file()))


def report(trainer: TimedTrainer, steps: StepTimes, size: int) -> None:
    """Print the medians."""
    step = statistics.median(steps.undisturbed)
    print(f"checkpoint of {size / MIB:,.0f} MiB; a step takes {step:.2f} s")
    blocking = statistics.median(trainer.timings[False].waited)
    for in_background, name in ((False, "waiting"), (True, "in background")):
        # The save of the last step has no step after it.
        timings = trainer.timings[in_background]
        waited = statistics.median(timings.waited)
        print(
            f"{name:14} step waits {waited:6.2f} s ({waited / blocking:4.0%})   "
            f"whole after {statistics.median(timings.until_whole or timings.waited):6.2f} s   "
            f"next step {statistics.median(timings.next_step) / step:4.2f}x   "
            f"all waits: {' '.join(f'{each:.2f}' for each in timings.waited)}"
        )


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    run = Path(tempfile.mkdtemp(dir=place, prefix=".async_saving."))
    try:
        main(run, int(sys.argv[2]) if len(sys.argv) > 2 else 4)
    finally:
        shutil.rmtree(run, ignore_errors=True)
