"""The training step: transformers' Trainer, taught one weight per token.

The trainer is blind to the algorithm. It gets the log-probability of every token that carries a weight, and of no
other; hands them to `Algorithm.loss`; and divides by the algorithm's denominator over the whole global batch, all
processes and forward passes together. What transformers' loop takes for one batch is all that this process has of a
global batch: its forward passes are made here, as many as its memory asks for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import DistributedType
from swift_data.packing import Batch
from swift_tuners import SwiftModel
from swift_tuners.tuner import JSON
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, SchedulerType, TrainerCallback, TrainingArguments

from .algorithm import Algorithm
from .batches import EpochDataLoader, GlobalBatchSampler, PackDataset, StepCollator
from .divergence import LossGuard, find_sample, sum_by_sequence
from .document_attention import DocumentAttention
from .errors import InvalidTrainArgs, TrainingDiverged
from .forward_pass import ForwardPass
from .head import HeadTap
from .optimizer import build_optimizer, group_parameters
from .optimizer_args import OptimizerArgs
from .optimizer_state import inner_optimizer
from .parameter_optimizer import ParameterOptimizer
from .run_state import SavingSettings, UnkillableSaving

# Packs that are taken together in evaluation, so that forward passes are well filled.
_EVAL_PACKS = 64


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What a run decided about its batches and forward passes.

    Attributes:
        global_batch: packs in one optimizer step, of all processes together.
        max_tokens: most tokens in one forward pass; a larger pack has one of its own.
        pad_token_id: None joins samples end to end; a token id pads them, for models that leak across joined samples.
        data_seed: of the order of each epoch; None keeps the given order.
        head: see `ForwardPass`.
        attention: see `ForwardPass`.
        optimizer: which, and its options.
        name_sample: says which file and line a sample is from, by its number.
        guard: decides what becomes of a step whose loss is not finite.
    """

    global_batch: int
    max_tokens: int
    pad_token_id: int | None
    data_seed: int | None
    head: HeadTap | None = None
    attention: DocumentAttention | None = None
    optimizer: OptimizerArgs = field(default_factory=OptimizerArgs)
    name_sample: Callable[[int], str] = str
    guard: LossGuard = field(default_factory=lambda: LossGuard("stop", say=print))


class Trainer(UnkillableSaving):
    """Train a model by an algorithm.

    Args:
        model: any causal language model; its trainable parameters are those that require a gradient.
        arguments: transformers' own.
        algorithm: what is minimised.
        train_packs: packs of samples to train on.
        eval_packs: packs to evaluate on, or None.
        settings: see `TrainerSettings`.
        saving: see `SavingSettings`.
        callbacks: transformers' own.
    """

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        *,
        algorithm: Algorithm[Any],
        train_packs: PackDataset,
        eval_packs: PackDataset | None,
        settings: TrainerSettings,
        saving: SavingSettings,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=train_packs, eval_dataset=eval_packs, callbacks=callbacks
        )
        # It prints each log as a dict; what a run shows is for callbacks to decide.
        self.remove_callback(PrinterCallback)
        # The loss is divided by the global denominator here, so the loop must not divide it again.
        self.loss_is_scaled_for_ga = True
        self.host = model
        self.algorithm = algorithm
        self.settings = settings
        self.forward_pass = ForwardPass(
            host=model, algorithm=algorithm, head=settings.head, attention=settings.attention
        )
        self.tokens_seen = 0
        self.guard = settings.guard
        self._last_loss = torch.zeros((), device=arguments.device)
        self.set_up_saving(saving)

    def get_train_dataloader(self) -> EpochDataLoader:
        """Return the loader of this process's share of each optimizer step; see `GlobalBatchSampler`."""
        assert isinstance(self.train_dataset, PackDataset), "given to the constructor"
        return self._loader(self.train_dataset, global_batch=self.settings.global_batch, seed=self.settings.data_seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer, with the learning rates that the tuners ask for; vectors such as biases do not decay.

        Raises:
            InvalidTrainArgs: the optimizer refuses its options, or cannot train what trains.
            MissingDependency: its package is not installed.
        """
        if self.optimizer is None:
            args = self.settings.optimizer
            groups = group_parameters(
                self.host, args, learning_rate=self.args.learning_rate, weight_decay=self.args.weight_decay
            )
            self.optimizer = build_optimizer(args.optim, self.host, groups, args)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build the schedule of the learning rate.

        Raises:
            InvalidTrainArgs: the schedule needs what cannot be given here.
        """
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (ValueError, TypeError) as error:
            name = SchedulerType(self.args.lr_scheduler_type).value
            raise InvalidTrainArgs(f"lr_scheduler_type {name!r} cannot be used: {error}") from error

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Batch]], num_batches: int, device: torch.device
    ) -> tuple[list[list[Batch]], Tensor]:
        """Take this process's share of one optimizer step, and the denominator that all processes share."""
        assert num_batches == 1, "accumulation is not the loop's"
        passes = next(epoch_iterator, None)
        if passes is None:
            return [], torch.zeros(())
        local = torch.tensor(sum(map(self.algorithm.denominator, passes)), dtype=torch.float64, device=device)
        self.tokens_seen += sum(int(np.count_nonzero(batch.sequence_ids >= 0)) for batch in passes)
        return [self._as_many_everywhere(passes)], self._sum_over_processes(local)

    def training_step(  # type: ignore[override]  # what the loop calls a batch is ours
        self, model: nn.Module, inputs: list[Batch], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run the forward and backward passes of one optimizer step on this process.

        Returns:
            This process's share of the global batch's loss.

        Raises:
            TrainingDiverged: the loss is not a finite number, and the run is to stop; nothing is trained on it.
        """
        assert num_items_in_batch is not None, "see get_batch_samples"
        model.train()
        denominator = max(float(num_items_in_batch), 1e-12)
        is_deepspeed = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        total = torch.zeros((), device=self.args.device)
        optimizer = inner_optimizer(self.optimizer) if self.optimizer is not None else None
        for index, batch in enumerate(inputs):
            is_last = index == len(inputs) - 1
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            # Processes exchange gradients once, in the last backward pass.
            alone = nullcontext() if is_last or is_deepspeed else self.accelerator.no_sync(model)
            with alone, self.forward_pass.joined(batch), self.compute_loss_context_manager():
                loss = self._share_of_loss(model, batch, denominator)
                if is_last and (auxiliary := self._auxiliary_loss()) is not None:
                    loss = loss + auxiliary
                if self.guard.has_found and self.args.world_size == 1:
                    # Nothing is trained on it, not even by an optimizer that steps in the backward pass.
                    break
                if isinstance(optimizer, ParameterOptimizer):
                    optimizer.gathers = not is_last
                # DeepSpeed would divide by the number of passes.
                self.accelerator.backward(loss, **({"scale_wrt_gas": False} if is_deepspeed else {}))
            total += loss.detach()
        if self.guard.drops_step(self.state.global_step + 1, on_any_process=self._on_any_process):
            model.zero_grad(set_to_none=True)
            return self._mean_since_log()
        self._last_loss = total
        return total

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the weighted mean loss over all evaluation samples, however they are split among processes."""
        packs = eval_dataset if eval_dataset is not None else self.eval_dataset
        assert isinstance(packs, PackDataset), "there is something to evaluate on"
        loader = self._loader(packs, global_batch=_EVAL_PACKS * self.args.world_size, seed=None)
        model = self.host
        was_training = model.training
        model.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with torch.no_grad():
            for batch in (batch for passes in loader for batch in self._as_many_everywhere(passes)):
                with self.forward_pass.joined(batch):
                    totals[0] += self.algorithm.loss(self.forward_pass(model, batch)).double()
                totals[1] += self.algorithm.denominator(batch)
        model.train(was_training)
        loss, denominator = self._sum_over_processes(totals).tolist()
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the validation loss is {loss} after {self.state.global_step} steps; expected a finite number; "
                "try a lower --learning_rate, or --torch_dtype float32"
            )
        metrics = {f"{metric_key_prefix}_loss": loss / max(denominator, 1e-12)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: list[Batch]) -> int:  # type: ignore[override]  # as above
        """Return 0: transformers' own count knows neither joined samples nor frozen weights."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log numbers, with how many steps were dropped so far, if any were."""
        skipped = {"skipped_steps": self.guard.num_skipped} if self.guard.num_skipped else {}
        super().log({**logs, **skipped}, start_time)

    def data_state(self) -> JSON:
        """Return what this process has counted."""
        return {"num_skipped": self.guard.num_skipped}

    def load_data_state(self, states: Sequence[JSON]) -> None:
        """Count on."""
        counts = cast("list[dict[str, int]]", states)
        self.guard.num_skipped = counts[0]["num_skipped"]

    def _sampler(self, packs: PackDataset, *, global_batch: int, seed: int | None) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            packs.sizes,
            global_batch=global_batch,
            num_processes=self.args.world_size,
            rank=self.args.process_index,
            seed=seed,
        )

    def _loader(self, packs: PackDataset, *, global_batch: int, seed: int | None) -> EpochDataLoader:
        sampler = self._sampler(packs, global_batch=global_batch, seed=seed)
        collate = StepCollator(pad_token_id=self.settings.pad_token_id, max_tokens=self.settings.max_tokens)
        return EpochDataLoader(packs, batch_sampler=sampler, collate_fn=collate)

    def _share_of_loss(self, model: nn.Module, batch: Batch, denominator: float) -> Tensor:
        tokens = self.forward_pass(model, batch)
        loss = self.algorithm.loss(tokens)
        if not math.isfinite(loss.item()):
            losses_S = sum_by_sequence(tokens.logps_N, tokens.weights_N, tokens.sequences_N)
            self.guard.look_into(losses_S, partial(self._name_sequence, batch))
        # Data parallelism averages gradients over processes; the division by the global denominator asks for their sum.
        return loss * (self.args.world_size / denominator)

    def _auxiliary_loss(self) -> Tensor | None:
        return self.host.auxiliary_loss() if isinstance(self.host, SwiftModel) else None

    def _mean_since_log(self) -> Tensor:
        """Return what makes the loss of a log line the mean of its other steps; without any, the last step's loss."""
        num_steps = self.state.global_step - self._globalstep_last_logged
        return self._tr_loss / num_steps if num_steps else self._last_loss

    def _on_any_process(self, fact: bool) -> bool:
        return bool(self._sum_over_processes(torch.tensor(float(fact), device=self.args.device)))

    def _name_sequence(self, batch: Batch, index: int) -> str:
        """Say where a sequence of a forward pass in this step comes from."""
        packs = self.train_dataset
        assert isinstance(packs, PackDataset), "given to the constructor"
        sampler = self._sampler(packs, global_batch=self.settings.global_batch, seed=self.settings.data_seed)
        epoch, step = divmod(self.state.global_step, len(sampler))
        sampler.set_epoch(epoch)
        indices = next(itertools.islice(sampler, step, None))
        candidates = [each for number in indices if number >= 0 for each in packs.packs[number]]
        found = find_sample(batch.input_ids[batch.sequence_ids == index], packs.samples, candidates)
        return f"sequence {index} of the step" if found is None else self.settings.name_sample(found)

    def _as_many_everywhere(self, passes: list[Batch]) -> list[Batch]:
        """Add passes without weight, where processes must make equally many since each gathers the others' weights."""
        if self.args.world_size == 1 or self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            return passes
        most = int(self.accelerator.gather(torch.tensor([len(passes)], device=self.args.device)).max())
        smallest = min(passes, key=lambda batch: batch.input_ids.size)
        return passes + [_without_weight(smallest)] * (most - len(passes))

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        if self.args.world_size == 1:
            return values
        reduced: Tensor = self.accelerator.reduce(values, reduction="sum")
        return reduced


def build_trainer(model: nn.Module, arguments: TrainingArguments, **options: Any) -> Trainer:  # noqa: ANN401
    """Make a `Trainer`; what transformers refuses about the options is the user's mistake.

    Raises:
        InvalidTrainArgs: a tracker's package is missing, or the model cannot do what an option asks for.
    """
    try:
        return Trainer(model, arguments, **options)
    except (ValueError, ImportError, RuntimeError) as error:
        raise InvalidTrainArgs(f"transformers refuses these options: {error}") from error


def _without_weight(batch: Batch) -> Batch:
    return replace(batch, labels=np.full_like(batch.labels, -100), loss_scale=np.zeros_like(batch.loss_scale))
