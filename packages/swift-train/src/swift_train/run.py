"""A training run from arguments to a checkpoint: the one place where all the parts meet."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, set_seed
from swift_data.encoding_cache import default_cache_dir
from swift_data.rows import ChatRow, load_rows, split_rows
from swift_templates.template import Template
from swift_tuners import LoadedModel, SwiftModel, load_model, resolve_model
from swift_tuners.checkpoint import SwiftConfig
from swift_tuners.checkpoint_folder import describe_base
from swift_tuners.models.load import choose_dtype
from swift_tuners.models.resolve import ResolvedModel
from swift_tuners.tuner import Phase
from torch import nn
from transformers import PreTrainedModel, TrainerState

from .algorithm import ALGORITHMS
from .args import SftArgs
from .args_rules import check_args, find_options_without_effect, uses_unsloth
from .attach import attach_tuners
from .batches import PackDataset
from .checkpoints import find_checkpoints
from .divergence import LossGuard
from .errors import CheckpointNotWritten, InvalidTrainArgs
from .head import find_head
from .joining import choose_joining
from .memory import MemoryPlan, plan_memory, read_peak_mib
from .optimizer import group_parameters, predict_state_bytes
from .output_folder import choose_folder, make_folder
from .peft_quick_lora import quicken_lora
from .progress import ProgressBar, RunLog, TunerSteps, draw_curve
from .report import Plan, describe_plan
from .resuming import LATEST, Resumption, RunFingerprint, check_same_run, digest_samples, find_resumption
from .run_state import SavingSettings
from .samples import Encoder, RunData, Samples, build_template, encode_rows, plan_packs
from .stopping import RunStopped
from .trainer import Trainer, TrainerSettings, build_trainer
from .training_arguments import LEARNING_RATE, build_training_arguments, count_global_batch, default_max_tokens

MEASURED_PACKS = 64
"""Batch rows that are looked at to estimate what a step takes."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Where a run left things.

    Attributes:
        folder: the run's folder.
        checkpoint: its last complete checkpoint.
        curve: the loss curve as PNG; None on processes that draw nothing.
        eval_loss: the last validation loss, in nats per trained token; None without validation rows.
    """

    folder: Path
    checkpoint: Path
    curve: Path | None
    eval_loss: float | None


def run_sft(args: SftArgs, *, algorithm: str = "sft", on_output_dir: Callable[[Path], None] | None = None) -> RunResult:
    """Fine-tune a model on conversations.

    Args:
        args: everything a user said.
        algorithm: name of one that takes conversations.
        on_output_dir: called on one process with the run's folder, before training.

    Raises:
        SwiftTrainError, SwiftDataError, SwiftTemplatesError, SwiftTunersError: what was said cannot be done; see their
        messages.
        RunStopped: SIGTERM or Ctrl-C came; the last step is saved.
    """
    check_args(args)
    processes = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=args.train.ddp_timeout))
    set_seed(args.train.seed)
    say = partial(print, flush=True) if processes.is_main_process else _say_nothing
    wanted = args.train.resume_from_checkpoint
    args = _agree_on_checkpoint(args, processes, say)
    folder = _agree_on_folder(args, processes, goes_on=wanted == LATEST)
    for sentence in find_options_without_effect(args):
        say(sentence)

    with processes.main_process_first():
        resolved = resolve_model(args.model)
    build = partial(
        build_template, resolved.folder, args.template, args.model.new_special_tokens, args.model.max_model_len
    )
    encoder = Encoder(template=build(), algorithm=algorithm, build=build)
    data = _encode(args, encoder, processes)
    loaded = _load(args, resolved, encoder.template)
    encoder.template.tokenizer.check_ids(loaded.new_tokens)
    # Tuners may put a wrapper around the embedding.
    vocabulary = cast("nn.Embedding", loaded.model.get_input_embeddings()).num_embeddings
    _check_vocabulary(vocabulary, data.training)
    model = attach_tuners(loaded, args, data.training, say)
    trainer, memory = _build_trainer(args, model, loaded, encoder, data, processes, folder, say, vocabulary=vocabulary)
    _check_steps_left(trainer, args)
    model.plan_steps(trainer.args.max_steps)
    plan = Plan(
        data=data,
        num_packs=len(cast("PackDataset", trainer.train_dataset)),
        num_steps=trainer.args.max_steps,
        global_batch=trainer.settings.global_batch,
        memory=memory,
    )
    for line in describe_plan(plan, encoder.template, model):
        say(line)
    if processes.is_main_process:
        make_folder(folder, on_output_dir, resumed_at=args.train.resume_from_checkpoint)
    processes.wait_for_everyone()
    return _train(trainer, folder, args, say)


def _encode(args: SftArgs, encoder: Encoder, processes: PartialState) -> RunData:
    training_rows, validation_rows, skipped = _load_rows(args)
    encode = partial(
        encode_rows,
        encoder=encoder,
        show_progress=processes.is_main_process,
        on_bad_row=args.data.on_bad_row,
        cache_dir=default_cache_dir() if args.data.load_from_cache_file else None,
        num_proc=args.data.dataset_num_proc,
        retry=processes.is_local_main_process,
    )
    # The first process of a machine encodes, and the others find what it wrote.
    with processes.local_main_process_first():
        return RunData(
            training=encode(training_rows, name="training"),
            validation=encode(validation_rows, name="validation") if validation_rows else None,
            training_rows=training_rows,
            skipped_rows=skipped,
        )


def _build_trainer(
    args: SftArgs,
    model: SwiftModel,
    loaded: LoadedModel,
    encoder: Encoder,
    data: RunData,
    processes: PartialState,
    folder: Path,
    say: Callable[[str], None],
    *,
    vocabulary: int,
) -> tuple[Trainer, MemoryPlan]:
    template = encoder.template
    quicken_lora(model, lambda: model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device)))
    joining = choose_joining(
        model,
        vocabulary=vocabulary,
        longest=data.longest,
        has_media=data.have_media,
        wants_packing=args.data.packing,
        say=say,
    )
    packing_length = _packing_length(args, template) if args.data.packing and not joining.pads else None
    packs = PackDataset(data.training.encoded, plan_packs(data.training, packing_length=packing_length))
    settings = TrainerSettings(
        global_batch=count_global_batch(args.train, processes.num_processes),
        max_tokens=args.train.max_tokens_per_forward or default_max_tokens(),
        pad_token_id=template.pad_token_id if joining.pads else None,
        data_seed=args.data.data_seed if args.data.dataset_shuffle else None,
        head=find_head(model, vocabulary=vocabulary),
        attention=joining.attention,
        optimizer=args.optimizer,
        name_sample=data.name_sample,
        guard=LossGuard(args.train.on_nan, say=say),
    )
    memory = _plan_memory(model, packs, settings, args)
    arguments = build_training_arguments(
        args,
        folder,
        num_packs=len(packs),
        global_batch=settings.global_batch,
        checkpointing=memory.checkpointing,
        finds_unused=any(each.phase is Phase.SCHEDULE for each in model.tuners.values()),
    )
    fingerprint = RunFingerprint(
        base_model=loaded.name,
        base_revision=loaded.revision,
        algorithm=encoder.algorithm,
        dataset=digest_samples(data.training.encoded, data.training.encoded.lengths),
        num_samples=len(data.training.encoded),
        packing_length=packing_length,
        global_batch=settings.global_batch,
        data_seed=settings.data_seed,
    )
    if args.train.resume_from_checkpoint:
        check_same_run(Path(args.train.resume_from_checkpoint), fingerprint)
    validation = data.validation
    trainer = build_trainer(
        model,
        arguments,
        algorithm=ALGORITHMS.load_class(encoder.algorithm)(),
        train_packs=packs,
        eval_packs=PackDataset(validation.encoded, plan_packs(validation, packing_length=None)) if validation else None,
        settings=settings,
        saving=SavingSettings(
            save=partial(model.save_pretrained, swift_config=_describe_run(loaded, template)),
            fingerprint=fingerprint,
            keep=args.train.save_total_limit,
            in_background=args.train.async_save,
            say=say,
        ),
        callbacks=[TunerSteps(model, settings.guard)],
    )
    return trainer, memory


def _load_rows(args: SftArgs) -> tuple[Sequence[ChatRow], Sequence[ChatRow], Mapping[str, int]]:
    loaded = load_rows(args.data.dataset, args.data, use_hf=args.model.use_hf)
    rows, skipped = loaded.rows, Counter[str](loaded.skipped)
    if args.data.val_dataset:
        validation = load_rows(args.data.val_dataset, args.data, purpose="validation", use_hf=args.model.use_hf)
        return rows, validation.rows, skipped + Counter[str](validation.skipped)
    if args.data.split_dataset_ratio > 0:
        return *split_rows(rows, args.data.split_dataset_ratio, args.data.data_seed), skipped
    return rows, [], skipped


def _load(args: SftArgs, resolved: ResolvedModel, template: Template) -> LoadedModel:
    if not uses_unsloth(args):
        return load_model(args.model, resolved, args.quantization)
    # unsloth exchanges methods of the model's classes, and so it loads the model itself.
    from swift_tuners.peft_unsloth import load_for_unsloth

    model = load_for_unsloth(
        resolved.folder, dtype=choose_dtype(args.model.torch_dtype), max_length=template.max_length or 2048
    )
    return LoadedModel(
        cast("PreTrainedModel", model), resolved.folder, resolved.name, resolved.revision, resolved.use_hf
    )


def _check_steps_left(trainer: Trainer, args: SftArgs) -> None:
    if not args.train.resume_from_checkpoint:
        return
    state = TrainerState.load_from_json(str(Path(args.train.resume_from_checkpoint) / "trainer_state.json"))
    if state.global_step >= trainer.args.max_steps:
        raise InvalidTrainArgs(
            f"the checkpoint to resume from has done {state.global_step} steps and this run ends after "
            f"{trainer.args.max_steps}; nothing is left to train: raise --num_train_epochs or --max_steps"
        )


def _check_vocabulary(known: int, samples: Samples) -> None:
    """Refuse a tokenizer that has more tokens than the model."""
    if samples.largest_id >= known:
        raise InvalidTrainArgs(
            f"the tokenizer gives token {samples.largest_id} and the model knows tokens below {known}; "
            "they do not belong together"
        )


def _packing_length(args: SftArgs, template: Template) -> int:
    length = args.data.packing_length or template.max_length
    if length is None:
        raise InvalidTrainArgs("--packing needs --packing_length or --max_length: this model names no maximal length")
    return length


def _describe_run(loaded: LoadedModel, template: Template) -> SwiftConfig:
    return replace(
        describe_base(loaded),
        template=template.args.template,
        system=template.system,
        response_prefix=template.args.response_prefix,
        enable_thinking=template.args.enable_thinking,
    )


def _agree_on_checkpoint(args: SftArgs, processes: PartialState, say: Callable[[str], None]) -> SftArgs:
    """Return the arguments with the checkpoint that 'latest', 'true' or a run's folder means."""
    found = [Resumption(checkpoint=None)]
    if processes.is_main_process:
        found = [find_resumption(args.train.resume_from_checkpoint, output_dir=Path(args.train.output_dir))]
        for note in found[0].notes:
            say(note)
    checkpoint = broadcast_object_list(found)[0].checkpoint
    chosen = None if checkpoint is None else str(checkpoint)
    return replace(args, train=replace(args.train, resume_from_checkpoint=chosen))


def _agree_on_folder(args: SftArgs, processes: PartialState, *, goes_on: bool) -> Path:
    chosen = [str(choose_folder(args.train, goes_on=goes_on)) if processes.is_main_process else ""]
    return Path(broadcast_object_list(chosen)[0])


def _plan_memory(model: SwiftModel, packs: PackDataset, settings: TrainerSettings, args: SftArgs) -> MemoryPlan:
    # Where there are many, the longest tell what a step takes.
    by_size = sorted(range(len(packs)), key=lambda index: -packs.sizes[index])[:MEASURED_PACKS]
    sizes = [(packs.sizes[index], sum(each.num_trained for each in packs[index])) for index in by_size]
    longest, all_tokens = sizes[0][0], sum(tokens for tokens, _ in sizes)
    tokens = max(longest, min(settings.max_tokens, settings.global_batch * longest))
    share = sum(trained for _, trained in sizes) / max(1, all_tokens)
    groups = group_parameters(
        model,
        args.optimizer,
        learning_rate=args.train.learning_rate or LEARNING_RATE,
        weight_decay=args.train.weight_decay,
    )
    return plan_memory(
        model,
        tokens=tokens,
        trained_tokens=round(tokens * share),
        checkpointing=args.train.gradient_checkpointing,
        optimizer_bytes=predict_state_bytes(args.optimizer.optim, model, groups, args.optimizer),
    )


def _train(trainer: Trainer, folder: Path, args: SftArgs, say: Callable[[str], None]) -> RunResult:
    trainer.add_callback(ProgressBar(trainer))
    trainer.add_callback(RunLog(folder))
    resume = Path(args.train.resume_from_checkpoint) if args.train.resume_from_checkpoint else None
    try:
        trainer.train_safely(resume)
    except RunStopped as stop:
        say(f"\n{stop}. {_what_is_left(folder)}")
        raise
    except CheckpointNotWritten as error:
        raise CheckpointNotWritten(f"{error}. {_what_is_left(folder)}") from error.__cause__
    checkpoint = folder / f"checkpoint-{trainer.state.global_step}"
    curve = draw_curve(folder) if trainer.args.should_save else None
    history = trainer.state.log_history
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    trained = [entry["loss"] for entry in history if "loss" in entry]
    if trained:
        say(f"\nloss:        {trained[-1]:.4f}" + (f", validation {losses[-1]:.4f}" if losses else ""))
    say(f"checkpoint:  {checkpoint}")
    say(f"loss curve:  {curve}")
    say(f"peak memory: {read_peak_mib():,.0f} MiB of this process, with Python and libraries")
    say(f"ask it:      swift infer --ckpt_dir {shlex.quote(str(checkpoint))}")
    say(f"merge it:    swift export --ckpt_dir {shlex.quote(str(checkpoint))} --merge_lora true")
    return RunResult(folder=folder, checkpoint=checkpoint, curve=curve, eval_loss=losses[-1] if losses else None)


def _what_is_left(folder: Path) -> str:
    whole = find_checkpoints(folder)
    if not whole:
        return f"No checkpoint was complete yet in {str(folder)!r}."
    return f"The last complete checkpoint is {whole[-1]}; go on with --resume_from_checkpoint {whole[-1]}"


def _say_nothing(*_: object) -> None:
    """Stand in for print on processes that do not speak."""
