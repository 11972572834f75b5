"""What a run shows and keeps while it trains: a progress bar, a log of numbers, a curve."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Never, TypeAlias, cast

from swift_tuners.tuner import JSON
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

if TYPE_CHECKING:
    from swift_tuners import SwiftModel
    from torch.optim import Optimizer

    from .divergence import LossGuard
    from .trainer import Trainer

LogLine: TypeAlias = dict[str, JSON]
"""A line of the log: 'step', and whatever was logged after it."""
LOG_FILE = "logging.jsonl"
CURVE_FILE = "loss.png"


class ProgressBar(TrainerCallback):
    """One line that moves: steps, loss, tokens per second, time left."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._bar: tqdm[Never] | None = None
        self._seconds = 0.0
        self._tokens = 0
        self._step_began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="train", unit="step", dynamic_ncols=True
            )

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Take the time: what evaluation and saving take is not the step's."""
        self._step_began = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Move the bar."""
        self._seconds += time.monotonic() - self._step_began
        self._tokens = self.trainer.tokens_seen
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Show the newest loss and the mean rate."""
        if self._bar is None or not logs:
            return
        shown: dict[str, object] = {str(name): f"{logs[name]:.4f}" for name in ("loss", "eval_loss") if name in logs}
        rate = self._tokens * args.world_size / max(self._seconds, 1e-9)
        self._bar.set_postfix({**shown, "tokens/s": f"{rate:.0f}"})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class TunerSteps(TrainerCallback):
    """Tells the tuners of each step that is done, for those with a schedule of their own.

    Args:
        model: with its tuners.
        guard: of the loss; a step that it drops is none.
    """

    def __init__(self, model: SwiftModel, guard: LossGuard | None = None) -> None:
        self.model = model
        self.guard = guard

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Optimizer | None = None,
        **_: object,
    ) -> None:
        """Pass on the number of the step, which is done but not counted yet; its gradients are still there."""
        if self.guard is None or not self.guard.is_dropping:
            self.model.on_step(state.global_step + 1, optimizer)


class RunLog(TrainerCallback):
    """A line of JSON for each log, in a file that a killed run may go on with."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Forget what was logged after the step that a resumed run goes on from."""
        log = self.run / LOG_FILE
        if state.is_world_process_zero and log.exists():
            kept = [line for line in read_log(self.run) if cast("int", line["step"]) <= state.global_step]
            # Killed while it writes, this would lose the log of all steps.
            unfinished = log.with_name(f".{LOG_FILE}.tmp")
            unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            unfinished.replace(log)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Append the numbers to the log file."""
        if state.is_world_process_zero and logs:
            with (self.run / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, "epoch": state.epoch, **logs}) + "\n")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Bring the log to the disk: a checkpoint that is there has its log lines, whatever happens to the machine."""
        log = self.run / LOG_FILE
        if state.is_world_process_zero and log.exists():
            with log.open("rb") as file:
                os.fsync(file.fileno())


def read_log(run: Path) -> list[LogLine]:
    """Return the lines of a run's log; what a killed process has left of its last line is none."""
    *lines, rest = (run / LOG_FILE).read_text(encoding="utf-8").split("\n")
    found: list[LogLine] = [json.loads(line) for line in lines if line]
    try:
        return [*found, json.loads(rest)] if rest else found
    except ValueError:
        return found


def draw_curve(run: Path) -> Path | None:
    """Draw a run's logged losses as a PNG beside its log; None where nothing was logged."""
    lines = read_log(run)
    curves: dict[str, list[tuple[float, float]]] = {
        label: [(_number(line, "step"), _number(line, name)) for line in lines if name in line]
        for name, label in (("loss", "training"), ("eval_loss", "validation"))
    }
    if not any(curves.values()):
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for label, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per trained token)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(run / CURVE_FILE, dpi=120)
    pyplot.close(figure)
    return run / CURVE_FILE


def _number(line: LogLine, name: str) -> float:
    return cast("float", line[name])
