"""Options that cannot work are refused before anything is loaded, and those without effect are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from swift_train import SftArgs, run_sft
from swift_train.args import TrainArgs
from swift_train.args_rules import check_args, find_options_without_effect
from swift_train.errors import InvalidTrainArgs
from swift_train.training_arguments import build_training_arguments, count_global_batch
from swift_tuners.tuners.lora import LoraArgs


def arguments(**train: object) -> SftArgs:
    args = SftArgs(train=TrainArgs(**train))  # type: ignore[arg-type]  # options of a test
    args.data.dataset = ["rows.jsonl"]
    return args


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0), ("learning_rate", -1.0), ("learning_rate", float("nan")),
        ("num_train_epochs", float("inf")),
        ("max_steps", 0), ("warmup_ratio", 5.0), ("max_grad_norm", -1.0), ("seed", -1),
        ("save_steps", 0), ("save_total_limit", 0), ("weight_decay", -0.1), ("per_device_train_batch_size", 0),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(InvalidTrainArgs, match=f"{name} is {value}; expected"):
        check_args(arguments(**{name: value}))


def test_types_and_places_that_training_cannot_use_are_refused() -> None:
    args = arguments()
    args.model.torch_dtype = "float16"
    with pytest.raises(InvalidTrainArgs, match="float16, which loses small gradients"):
        check_args(args)
    args = arguments()
    args.model.device_map = "auto"
    with pytest.raises(InvalidTrainArgs, match="one device of its own"):
        check_args(args)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"report_to": ["nonesuch"]}, "nonesuch"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "cosine_with_min_lr"),
    ],
    ids=["tracker", "schedule"],
)
def test_what_transformers_refuses_is_the_users_mistake(
    train: dict[str, object], message: str, model_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    args = arguments(output_dir=str(tmp_path), **train)
    args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
    with pytest.raises(InvalidTrainArgs, match=message):
        run_sft(args)


def test_an_unknown_optimizer_is_refused(model_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    args = arguments(output_dir=str(tmp_path))
    args.model.model, args.data.dataset = str(model_folder), [str(rows_file)]
    args.optimizer.optim = "adamv"
    with pytest.raises(InvalidTrainArgs, match=r"optim 'adamv' is unknown; did you mean .*'adamw'"):
        run_sft(args)


def test_options_without_effect_are_named_once() -> None:
    args = arguments(eval_steps=5, max_steps=3, num_train_epochs=7, resume_from_checkpoint="x", output_dir="y")
    args.data = replace(args.data, packing_length=64)
    args.tuner = LoraArgs(target_regex=".*", target_modules=["q_proj"])
    said = " ".join(find_options_without_effect(args))
    for name in ("packing_length", "eval_steps", "num_train_epochs", "output_dir", "tuner's options", "target_modules"):
        assert said.count(name) == 1, name
    assert find_options_without_effect(arguments()) == []


def test_a_short_run_has_no_step_of_rate_zero(tmp_path: Path) -> None:
    built = build_training_arguments(arguments(max_steps=10), tmp_path, num_packs=10, global_batch=16)
    assert built.warmup_steps == 0  # 5 % of 10 steps is half a step
    built = build_training_arguments(arguments(num_train_epochs=2), tmp_path, num_packs=160, global_batch=16)
    # By hand: 160 packs in global batches of 16, twice; 5 % of 20 steps.
    assert (built.max_steps, built.warmup_steps) == (20, 1)
    assert built.learning_rate == 1e-4 and built.n_gpu <= 1


@pytest.mark.parametrize(
    ("options", "processes", "packs"), [({}, 1, 16), ({}, 3, 15), ({"gradient_accumulation_steps": 2}, 4, 8)]
)
def test_a_global_batch_is_of_all_processes(options: dict[str, object], processes: int, packs: int) -> None:
    # By hand: 16 / 3 is about 5 forward passes of each process.
    assert count_global_batch(arguments(**options).train, processes) == packs


def test_streaming_is_refused_before_anything_is_loaded() -> None:
    args = arguments()
    args.model.model, args.data.streaming = "/no/such/model", True
    with pytest.raises(InvalidTrainArgs, match=r"streaming is true; sft takes whole sets.*leave --streaming out"):
        run_sft(args)


def test_options_of_streams_mixtures_and_validation_without_effect_are_named() -> None:
    args = arguments()
    args.data = replace(args.data, shuffle_buffer_size=5, stopping_strategy="all_exhausted", val_dataset_shuffle=True)
    said = find_options_without_effect(args)
    assert [each.split()[2] for each in said] == ["shuffle_buffer_size", "stopping_strategy", "val_dataset_shuffle"]
    args.data = replace(args.data, shuffle_buffer_size=1000, interleave_prob=[1.0], val_dataset=["rows.jsonl"])
    assert find_options_without_effect(args) == []
