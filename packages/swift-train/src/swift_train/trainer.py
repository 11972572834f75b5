"""The training step: transformers' Trainer, taught one weight per token.

The trainer is blind to the algorithm. It computes the log-probability of every token that carries a weight, and of no
other; hands them to `Algorithm.loss`; and divides by the algorithm's denominator over the whole global batch, all
processes and forward passes together.

B rows, T tokens, K columns in which some row has a weight, N tokens with a weight, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from swift_data.packing import Batch
from swift_kernels import token_logps
from swift_tuners import SwiftModel
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, SchedulerType, TrainerCallback, TrainingArguments
from transformers import Trainer as HfTrainer
from transformers.training_args import OptimizerNames

from .algorithm import Algorithm, WeightedTokens
from .batches import EpochDataLoader, GlobalBatchSampler, Pack, PackDataset, collate_packs
from .checkpoints import MANIFEST
from .errors import CheckpointNotWritten, InvalidTrainArgs, TrainingDiverged

ModelInputs = dict[str, Tensor]
_MEDIA = "media:"


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What a run decided about its batches.

    Attributes:
        pad_token_id: None joins samples end to end; a token id pads them, for models that leak across joined samples.
        data_seed: of the order of each epoch; None keeps the given order.
    """

    pad_token_id: int | None
    data_seed: int | None


class Trainer(HfTrainer):
    """Train a model by an algorithm.

    Args:
        model: any causal language model; its trainable parameters are those that require a gradient.
        arguments: transformers' own.
        algorithm: what is minimised.
        train_packs: packs of samples to train on.
        eval_packs: packs to evaluate on, or None.
        settings: see `TrainerSettings`.
        save: writes what `infer` and `export` need into a folder; called on one process.
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
        save: Callable[[Path], object],
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
        self.tokens_seen = 0
        self._save_folder = save
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._saving = False

    def get_train_dataloader(self) -> EpochDataLoader:
        """Return the loader of this process's forward passes; see `GlobalBatchSampler`."""
        assert isinstance(self.train_dataset, PackDataset), "given to the constructor"
        return self._loader(
            self.train_dataset,
            per_device=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps,
            seed=self.settings.data_seed,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Build the optimizer, with the learning rates that the tuners ask for; vectors such as biases do not decay.

        Raises:
            InvalidTrainArgs: the optimizer's package is missing, or it refuses its options.
        """
        if self.optimizer is not None or not isinstance(self.host, SwiftModel):
            return super().create_optimizer(model)
        groups: list[dict[str, Any]] = []
        for group in self.host.param_groups(self.args.learning_rate):
            for decays in (True, False):
                chosen = [each for each in group["params"] if (each.ndim > 1) is decays]
                decay = self.args.weight_decay if decays else 0.0
                if chosen:
                    groups.append({**group, "params": chosen, "weight_decay": decay})
        try:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, None)
            self.optimizer = optimizer_class(groups, **options)
        except (ValueError, ImportError, RuntimeError) as error:
            name = OptimizerNames(self.args.optim).value
            raise InvalidTrainArgs(f"optimizer {name!r} cannot be used: {error}") from error
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
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[ModelInputs], Tensor]:
        """Take one optimizer step's forward passes, and the denominator that all processes share."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        local = torch.tensor(sum(map(self.algorithm.denominator, batches)), dtype=torch.float64, device=device)
        self.tokens_seen += sum(batch.input_ids.size for batch in batches)
        return [_to_tensors(batch) for batch in batches], self._sum_over_processes(local)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return this forward pass's share of the global batch's loss.

        Raises:
            TrainingDiverged: the loss is not a finite number; nothing is trained on it.
        """
        assert not return_outputs and num_items_in_batch is not None, "only the loss is made here"
        loss = self.algorithm.loss(self._weighted_tokens(model, inputs))
        if not math.isfinite(loss.item()):
            raise TrainingDiverged(
                f"the loss is {loss.item()} after {self.state.global_step} steps; expected a finite number; "
                "try a lower --learning_rate, or --torch_dtype float32"
            )
        # Data parallelism averages gradients over processes; the division by the global denominator asks for their sum.
        share = loss * (self.args.world_size / max(float(num_items_in_batch), 1e-12))
        auxiliary = self.host.auxiliary_loss() if isinstance(self.host, SwiftModel) else None
        # Once a step, not once a forward pass.
        return share if auxiliary is None else share + auxiliary / self.current_gradient_accumulation_steps

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the weighted mean loss over all evaluation samples, however they are split among processes."""
        packs = eval_dataset if eval_dataset is not None else self.eval_dataset
        assert isinstance(packs, PackDataset), "there is something to evaluate on"
        loader = self._loader(packs, per_device=self.args.per_device_eval_batch_size, accumulation=1, seed=None)
        model = self.host
        was_training = model.training
        model.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        with torch.no_grad():
            for batch in loader:
                inputs = self._prepare_inputs(_to_tensors(batch))
                totals[0] += self.algorithm.loss(self._weighted_tokens(model, inputs)).double()
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what `infer` and `export` need; the manifest that completes a checkpoint comes last, in a callback."""
        self._saving = True
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir or "")
            folder.mkdir(parents=True, exist_ok=True)
            # What is written over an older checkpoint of the same step is incomplete until it has its own manifest.
            (folder / MANIFEST).unlink(missing_ok=True)
            self._save_folder(folder)

    def checkpoint_is_complete(self) -> None:
        """Take note that the checkpoint being saved has its manifest."""
        self._saving = False

    def train_safely(self, resume_from_checkpoint: Path | None) -> None:
        """Train to the end; an error while a checkpoint is written says so.

        Raises:
            CheckpointNotWritten: the disk is full, or cannot be written for another reason.
            TrainingDiverged: see `compute_loss`.
        """
        try:
            self.train(resume_from_checkpoint=str(resume_from_checkpoint) if resume_from_checkpoint else None)
        except Exception as error:
            if self._saving:
                raise CheckpointNotWritten(
                    f"the checkpoint of step {self.state.global_step} could not be written to "
                    f"{self.args.output_dir!r}: {error}"
                ) from error
            raise

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # The run has put the checkpoint's weights on the model already, through Swift: the loop would look for PEFT's
        # classes.
        pass

    def _loader(self, packs: PackDataset, *, per_device: int, accumulation: int, seed: int | None) -> EpochDataLoader:
        sampler = GlobalBatchSampler(
            len(packs),
            per_device=per_device,
            accumulation=accumulation,
            num_processes=self.args.world_size,
            rank=self.args.process_index,
            seed=seed,
        )
        collate = partial(collate_packs, pad_token_id=self.settings.pad_token_id)
        return EpochDataLoader(packs, batch_sampler=sampler, collate_fn=collate)

    def _weighted_tokens(self, model: nn.Module, inputs: ModelInputs) -> WeightedTokens:
        """Run the model and return the tokens that carry a weight; the head is evaluated for no other."""
        labels_BT, weights_BT = inputs["labels"][:, 1:], inputs["loss_scale"][:, 1:]
        sequences_BT = inputs["sequence_ids"][:, 1:]
        columns_K = (weights_BT != 0).any(dim=0).nonzero().squeeze(1)
        if not len(columns_K):
            # A forward pass of fillers only: one column keeps the graph that other processes wait for.
            columns_K = torch.zeros(1, dtype=torch.long, device=labels_BT.device)
        if isinstance(self.host, SwiftModel):
            self.host.on_batch(inputs["labels"])
        media = _media_of(inputs, getattr(self.host, "dtype", torch.float32))
        # Models that see count positions in their own way, such as in rows and columns of a picture.
        names = ("input_ids", "attention_mask") if media else ("input_ids", "position_ids", "attention_mask")
        passed = {name: inputs[name] for name in names if name in inputs} | media
        if self._keeps_logits:
            logits_BKV = model(**passed, use_cache=False, logits_to_keep=columns_K).logits
        else:
            logits_BKV = model(**passed, use_cache=False).logits[:, columns_K]
        weights_BK = weights_BT[:, columns_K]
        counted_BK = weights_BK != 0
        if not counted_BK.any():
            counted_BK[0, 0] = True
        return WeightedTokens(
            logps_N=token_logps(logits_BKV[counted_BK], labels_BT[:, columns_K][counted_BK].clamp_min(0)),
            weights_N=weights_BK[counted_BK],
            sequences_N=sequences_BT[:, columns_K][counted_BK],
        )

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


def _to_tensors(batch: Batch) -> ModelInputs:
    arrays: dict[str, npt.NDArray[np.generic] | None] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "labels": batch.labels,
        "loss_scale": batch.loss_scale,
        "sequence_ids": batch.sequence_ids,
        "attention_mask": batch.attention_mask,
    }
    arrays |= {_MEDIA + name: array for name, array in batch.media.items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


def _media_of(inputs: ModelInputs, dtype: torch.dtype) -> ModelInputs:
    """Return the arguments of pictures, videos and sounds, numbers in the model's own type."""
    media = {name.removeprefix(_MEDIA): tensor for name, tensor in inputs.items() if name.startswith(_MEDIA)}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in media.items()}


__all__ = ["Pack", "Trainer", "TrainerSettings"]
