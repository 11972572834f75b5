"""A trainer whose run can be killed at any moment: what is in its checkpoints, and when they are written.

A checkpoint has the tuners' weights with what their schedules need, the optimizer, the schedule of the learning rate,
each process's generators and place in the data, and what transformers' loop counts: a resumed run goes on as if it had
not stopped. The step waits only until all that is copied to host memory, if there is room for a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from swift_tuners.late_writing import Write, collect_writes
from swift_tuners.tuner import JSON
from torch import nn
from transformers import Trainer as HfTrainer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from .async_saving import BackgroundWriter, count_bytes, has_room_for_copy
from .checkpoints import PREFIX, abandon_checkpoint, begin_checkpoint, finish_checkpoint, remove_incomplete, remove_old
from .errors import CheckpointNotWritten
from .optimizer_state import is_shared_out, load_whole_state, whole_state
from .process_state import (
    ProcessState,
    read_generators,
    read_processes,
    restore_process,
    to_text,
    write_processes,
)
from .resuming import RunFingerprint, write_fingerprint
from .state_files import State, prepare_state, read_state
from .stopping import RunStopped, StopSignals

OPTIMIZER: Final = "optimizer"
SCHEDULER: Final = "scheduler"
SCALER: Final = "scaler"
TRAINER_STATE_FILE: Final = "trainer_state.json"


@dataclass(frozen=True, kw_only=True)
class SavingSettings:
    """How a run saves.

    Attributes:
        save: writes what `infer` and `export` need into a folder; called on one process.
        fingerprint: which run it is.
        keep: how many of the newest checkpoints stay; None keeps all.
        in_background: write while training goes on; None does where a copy of what is saved fits well into memory.
        say: tells the user of what is done unasked.
    """

    save: Callable[[Path], object]
    fingerprint: RunFingerprint
    keep: int | None = None
    in_background: bool | None = None
    say: Callable[[str], None] = print


class UnkillableSaving(HfTrainer):
    """transformers' Trainer with checkpoints of ours; `set_up_saving` comes before training."""

    saving: SavingSettings
    stop_signals: StopSignals

    def set_up_saving(self, settings: SavingSettings) -> None:
        """Say how this run saves."""
        self.saving = settings
        self.stop_signals = StopSignals(speaks=self.args.process_index == 0)
        self._writer = BackgroundWriter()
        self._has_said_why_it_waits = False
        self.add_callback(_BetweenSteps(self))

    def data_state(self) -> JSON:
        """Return this process's place in the data, as far as the number of the step does not say it."""
        return None

    def load_data_state(self, states: Sequence[JSON]) -> None:
        """Take over what `data_state` returned on each process of an earlier part of the run, before data is read."""

    def gather_optimizer(self) -> dict[str, State]:
        """Return the whole state of the optimizer on the process that saves; all processes call it at once.

        Raises:
            CheckpointNotWritten: DeepSpeed keeps it in its own places.
        """
        if self.is_deepspeed_enabled:
            raise CheckpointNotWritten(
                "DeepSpeed keeps the optimizer's state in its own places, which are not gathered; train with DDP or "
                "FSDP2, or save the weights only, with --save_only_model"
            )
        assert self.optimizer is not None, "training has one"
        shared_out = is_shared_out(self.optimizer)
        return whole_state(self.optimizer) if self.args.should_save or shared_out else {}

    def share_out_optimizer(self, state: State) -> None:
        """Take over what `gather_optimizer` returned, perhaps of another number of processes."""
        assert self.optimizer is not None, "made before it is loaded"
        load_whole_state(self.optimizer, state)

    def train_safely(self, resume_from_checkpoint: Path | None) -> None:
        """Train to the end, and wait until the last checkpoint is whole.

        Raises:
            RunStopped: SIGTERM or Ctrl-C came; a checkpoint of the last step is whole.
            CheckpointNotWritten: the disk is full, or cannot be written for another reason; earlier ones are whole.
        """
        if self.args.should_save:
            remove_incomplete(Path(str(self.args.output_dir)))
        with self.stop_signals:
            try:
                self.train(resume_from_checkpoint=str(resume_from_checkpoint) if resume_from_checkpoint else None)
            except BaseException as error:
                # What is being written is finished in any case; its failure is the smaller news.
                try:
                    self._writer.wait()
                except CheckpointNotWritten as failure:
                    error.add_note(str(failure))
                raise
            self._writer.wait()
            self.accelerator.wait_for_everyone()
        if self.stop_signals.received is not None and self.state.global_step < self.state.max_steps:
            raise RunStopped(self.stop_signals.received, self.state.global_step)

    def check_saving(self) -> None:
        """Raise CheckpointNotWritten if one could not be written since the last call."""
        self._writer.raise_failure()

    def is_to_stop(self) -> bool:
        """Say whether any process got a signal; all processes call it at once, and agree."""
        own = self.stop_signals.received or 0
        if self.args.world_size > 1:
            own = int(self.accelerator.gather(torch.tensor([own], device=self.args.device)).max())
            self.stop_signals.received = own or None
        return own != 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what `infer` and `export` need."""
        if self.args.should_save:
            self.saving.save(Path(output_dir or str(self.args.output_dir)))

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        self.store_flos()
        own = ProcessState(
            generators=read_generators(),
            summed_loss=self._tr_loss.item(),
            last_logged_step=self._globalstep_last_logged,
            data=self.data_state(),
        )
        processes = gather_object([to_text(own)]) if self.args.world_size > 1 else [to_text(own)]
        state = {} if self.args.save_only_model else self.gather_optimizer()
        if not self.args.should_save:
            return
        self._writer.wait()
        self._note_callbacks()
        run = Path(str(self.args.output_dir))
        step = self.state.global_step
        spared = [run / f"{PREFIX}{step}"]
        if self.state.best_model_checkpoint is not None:
            spared.append(Path(self.state.best_model_checkpoint))
        with _naming_failure(run, step):
            folder = begin_checkpoint(run, step=step)
            in_background = self._saves_in_background(state)
            writes = self._collect(folder, processes, state, in_background=in_background)
        job = partial(_write_all, writes, folder, step=step, keep=self.saving.keep, spared=spared)
        if in_background:
            self._writer.start(job)
        else:
            job()

    def _collect(
        self, folder: Path, processes: list[str], optimizer_state: State, *, in_background: bool
    ) -> list[Write]:
        """Write what is small, and return the functions that write the rest."""
        writes: list[Write] = []
        if in_background:
            with collect_writes() as writes:
                self.saving.save(folder)
        else:
            self.saving.save(folder)
        write_fingerprint(self.saving.fingerprint, folder)
        self.state.save_to_json(str(folder / TRAINER_STATE_FILE))
        if not optimizer_state:
            return writes
        write_processes(processes, folder)
        assert self.lr_scheduler is not None, "training has one"
        parts: dict[str, State] = {OPTIMIZER: optimizer_state, SCHEDULER: self.lr_scheduler.state_dict()}
        if self._scaler is not None:
            parts[SCALER] = self._scaler.state_dict()
        return writes + [prepare_state(part, folder, name, copy=in_background) for name, part in parts.items()]

    def _saves_in_background(self, optimizer_state: dict[str, State]) -> bool:
        if self.saving.in_background is not None:
            return self.saving.in_background
        assert self.model is not None, "a trainer has one"
        weights = sum(each.numel() * each.element_size() for each in self.model.parameters() if each.requires_grad)
        size = weights + count_bytes(optimizer_state)
        has_room = has_room_for_copy(size)
        if not has_room and not self._has_said_why_it_waits:
            self._has_said_why_it_waits = True
            self.saving.say(
                f"Training waits while a checkpoint is written: a copy of its {size / 2**20:,.0f} MiB would take more "
                "than a quarter of the free memory (--async_save true takes it)."
            )
        return has_room

    def _note_callbacks(self) -> None:
        """Put into the loop's state what is to be saved with it."""
        best = self.state.best_global_step
        if best:
            folder = Path(str(self.args.output_dir)) / f"{PREFIX}{best}"
            if best == self.state.global_step or folder.exists():
                self.state.best_model_checkpoint = str(folder)
        states: dict[str, list[Any]] = {}
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states.setdefault(type(callback).__name__, []).append(callback.state())
        # Written as transformers reads it, whatever its annotation says.
        self.state.stateful_callbacks = {  # type: ignore[assignment]
            name: found if len(found) > 1 else found[0] for name, found in states.items()
        }

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # The run has put the checkpoint's weights on the model already, through Swift: the loop would look for PEFT's
        # classes.
        pass

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        assert self.lr_scheduler is not None, "made before it is loaded"
        self.share_out_optimizer(read_state(folder, OPTIMIZER))
        schedule: Any = read_state(folder, SCHEDULER)
        self.lr_scheduler.load_state_dict(schedule)
        self.load_data_state([each.data for each in read_processes(folder)])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self._scaler is not None:
            state: Any = read_state(Path(checkpoint), SCALER)
            self._scaler.load_state_dict(state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Set what the loop has set to its beginning: it calls this after the first data of a resumed run is read."""
        if checkpoint is None:
            return
        processes = read_processes(Path(checkpoint))
        share = restore_process(processes, index=self.args.process_index, num_processes=self.args.world_size)
        self._tr_loss.fill_(share)
        self._globalstep_last_logged = processes[0].last_logged_step

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.accelerator, "scaler", None)


class _BetweenSteps(TrainerCallback):
    """Asks after each step whether a save has failed, and whether the run is to stop."""

    def __init__(self, trainer: UnkillableSaving) -> None:
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._trainer.check_saving()
        if self._trainer.is_to_stop():
            control.should_save = True
            control.should_training_stop = True


def _write_all(writes: list[Write], folder: Path, *, step: int, keep: int | None, spared: list[Path]) -> None:
    with _naming_failure(folder.parent, step):
        while writes:
            # Its copy of the tensors goes as soon as it is written.
            writes.pop(0)()
        finish_checkpoint(folder)
    if keep is not None:
        remove_old(folder.parent, keep=keep, spared=spared)


@contextmanager
def _naming_failure(run: Path, step: int) -> Iterator[None]:
    """Remove a checkpoint that cannot be written, and say so; earlier ones stay as they are."""
    try:
        yield
    except Exception as error:
        abandon_checkpoint(run, step=step)
        raise CheckpointNotWritten(
            f"the checkpoint of step {step} could not be written to {str(run)!r}: {error}"
        ) from error
