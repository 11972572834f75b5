"""The tuners of a run: new ones, with what they need of the run's data, or those of the checkpoint that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from swift_tuners import LoadedModel, Swift, SwiftModel
from swift_tuners.checkpoint import SwiftConfig
from swift_tuners.swift import Calibrated, build_tuner
from swift_tuners.tuner import TunerConfig

from .args import SftArgs
from .errors import InvalidTrainArgs
from .samples import Samples

CALIBRATION_SAMPLES = 32
"""Training samples from which starts such as EVA's and CorDA's are computed: the data of the first global batches."""


def attach_tuners(loaded: LoadedModel, args: SftArgs, training: Samples, say: Callable[[str], None]) -> SwiftModel:
    """Attach what a run trains.

    Args:
        loaded: the base.
        args: everything a user said.
        training: the run's samples, some of which starts that look at data are computed from.
        say: tells the user of what is done unasked.

    Raises:
        InvalidTrainArgs: the checkpoint to resume from stands on another model.
        SwiftTunersError: the tuner does not fit the model.
    """
    if args.train.resume_from_checkpoint:
        record = SwiftConfig.read(args.train.resume_from_checkpoint)
        _check_base(record, loaded)
        return Swift.from_pretrained(loaded.model, args.train.resume_from_checkpoint, trainable=True)
    config = args.tuner.build_config()
    if loaded.new_tokens:
        _train_new_tokens(config, loaded, say)
    tuner = build_tuner(config, name="default")
    batches = None
    if isinstance(tuner, Calibrated) and tuner.needs_calibration:
        batches = list(_calibration_batches(training, loaded.model.device))
        say(f"The adapter's start is computed from {len(batches)} training samples.")
    model = Swift.prepare_model(loaded.model, config, calibration=batches)
    if not model.count_parameters().trainable:
        raise InvalidTrainArgs(
            f"tuner {tuner.kind!r} trains no weight by itself; it accompanies another in one call of "
            "Swift.prepare_model: choose a --tuner that trains"
        )
    return model


def _check_base(record: SwiftConfig, loaded: LoadedModel) -> None:
    if record.base_model not in (None, loaded.name):
        raise InvalidTrainArgs(
            f"the checkpoint to resume from stands on {record.base_model!r} and the model is {loaded.name!r}; "
            "name the same --model"
        )
    if record.base_options != loaded.options:
        raise InvalidTrainArgs(
            f"the checkpoint to resume from loaded its base with {record.base_options or 'no options'} and this run "
            f"with {dict(loaded.options) or 'none'}; give the same"
        )


def _train_new_tokens(config: TunerConfig, loaded: LoadedModel, say: Callable[[str], None]) -> None:
    """Let an adapter train the rows of new tokens, and of no others."""
    if not hasattr(config, "trainable_token_indices"):
        say("new_special_tokens: their embeddings train only as far as the tuner trains the whole embedding.")
        return
    if config.trainable_token_indices is not None:
        return
    ids = sorted(loaded.new_tokens.values())
    names = {id(module): name.rpartition(".")[2] for name, module in loaded.model.named_modules()}
    embedding, head = loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()
    rows = {names[id(embedding)]: ids}
    if head is not None and head.weight is not embedding.weight:
        rows[names[id(head)]] = ids
    config.trainable_token_indices = rows


def _calibration_batches(training: Samples, device: torch.device) -> Iterator[dict[str, Any]]:
    for encoded in training.encoded[:CALIBRATION_SAMPLES]:
        ids_1T = torch.as_tensor(encoded.input_ids, device=device)[None]
        media = {name: torch.as_tensor(array, device=device) for name, array in encoded.media.items()}
        yield {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), **media}
