"""From words to arguments: spellings, precedence and what is refused."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from swift_cli.command_line import parse_args, parse_command_line
from swift_cli.errors import InvalidCommandLine, InvalidValue, InvalidYaml, SwiftCliError, UnknownOption
from swift_data.args import DataArgs
from swift_export.args import ExportArgs
from swift_infer.args import InferArgs
from swift_templates.args import TemplateArgs
from swift_templates.generation import SamplingParams
from swift_train.args import SftArgs, TrainArgs
from swift_tuners.args import ModelArgs
from swift_tuners.errors import UnknownName
from swift_tuners.tuners.lora import LoraArgs


def test_no_words_give_the_defaults() -> None:
    assert parse_args(SftArgs, []) == SftArgs()


def test_the_spellings_of_the_paper_train() -> None:
    words = shlex.split("""
        --model Qwen/Qwen3-0.6B --dataset 'a.jsonl#500' b.jsonl --train_type lora --lora_rank 16 --lora_alpha 64
        --target_modules all-linear --torch_dtype bfloat16 --max_length 2048 --num_train_epochs 1 --max_steps -1
        --learning_rate 1e-4 --per_device_train_batch_size 2 --gradient_accumulation_steps 8
        --gradient_checkpointing true --warmup_ratio 0.1 --output_dir out --save_steps 50 --eval_steps 50
        --logging_steps 1 --seed 7 --packing true --resume_from_checkpoint out/v0/checkpoint-50 --report_to tensorboard
    """)
    assert parse_args(SftArgs, words) == SftArgs(
        model=ModelArgs(model="Qwen/Qwen3-0.6B", torch_dtype="bfloat16"),
        template=TemplateArgs(max_length=2048),
        data=DataArgs(dataset=["a.jsonl#500", "b.jsonl"], packing=True),
        tuner=LoraArgs(rank=16, alpha=64, target_modules=["all-linear"]),
        train=TrainArgs(
            num_train_epochs=1,
            max_steps=-1,
            learning_rate=1e-4,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=8,
            gradient_checkpointing=True,
            warmup_ratio=0.1,
            output_dir="out",
            save_steps=50,
            eval_steps=50,
            logging_steps=1,
            seed=7,
            resume_from_checkpoint="out/v0/checkpoint-50",
            report_to=["tensorboard"],
        ),
    )


def test_the_spellings_of_the_paper_ask() -> None:
    words = "--ckpt_dir out/c --adapters a=b c --infer_backend pt --stream false --max_new_tokens 9 --temperature 0.7"
    args = parse_args(InferArgs, words.split())
    assert (args.engine.ckpt_dir, args.engine.adapters) == ("out/c", ["a=b", "c"])
    assert (args.engine.infer_backend, args.ask.stream) == ("torch", False)
    assert args.sampling == SamplingParams(max_new_tokens=9, temperature=0.7)


def test_the_spellings_of_the_paper_export() -> None:
    args = parse_args(ExportArgs, ["--ckpt_dir", "out/c", "--merge_lora", "true"])
    assert (args.export.ckpt_dir, args.export.merge_lora) == ("out/c", True)


@pytest.mark.parametrize(
    ("words", "stream"),
    [("--stream", True), ("--stream TRUE", True), ("--stream=false", False), ("--ask.stream No", False)],
)
def test_a_switch_stands_alone_or_with_a_word(words: str, stream: bool) -> None:
    assert parse_args(InferArgs, words.split()).ask.stream is stream


@pytest.mark.parametrize("backend", ["pt", "transformers", "torch"])
def test_values_have_aliases_too(backend: str) -> None:
    assert parse_args(InferArgs, ["--infer_backend", backend]).engine.infer_backend == "torch"


def test_a_mapping_is_json() -> None:
    words = ["--columns", '{"ask": "query"}']
    assert parse_args(SftArgs, words).data.columns == {"ask": "query"}


def test_a_value_that_looks_like_an_option_is_joined_to_its_own() -> None:
    assert parse_args(InferArgs, ["--prompt=--why?"]).ask.prompt == "--why?"
    assert parse_args(InferArgs, ["--prompt", "- why?"]).ask.prompt == "- why?"
    with pytest.raises(InvalidCommandLine, match=r"'-why' is no option.*as a value it is written --prompt=-why"):
        parse_args(InferArgs, ["--prompt", "-why"])


def test_a_value_may_hold_equals_signs_and_line_breaks() -> None:
    assert parse_args(InferArgs, ["--prompt", "a=b\nc"]).ask.prompt == "a=b\nc"
    assert parse_args(InferArgs, ["--prompt=a=b"]).ask.prompt == "a=b"


def test_of_an_option_given_twice_the_last_counts() -> None:
    args = parse_args(SftArgs, ["--lr", "1", "--dataset", "a", "b", "--learning_rate", "2", "--data.dataset", "c"])
    assert (args.train.learning_rate, args.data.dataset) == (2.0, ["c"])


def test_flags_override_the_file_which_overrides_defaults(tmp_path: Path) -> None:
    path = tmp_path / "that.yaml"
    path.write_text("train: {learning_rate: 1e-3, seed: 5}\ndata: {dataset: [a, b]}\n")
    for words in (
        [str(path), "--learning_rate", "1e-5"],
        ["--lr", "1e-5", "--config", str(path)],
        [str(path), "--lr=1e-5"],
    ):
        args = parse_args(SftArgs, words)
        assert (args.train.learning_rate, args.train.seed, args.train.max_steps) == (1e-5, 5, -1)
        assert args.data.dataset == ["a", "b"]


@pytest.mark.parametrize("spelling", ["--tuner lora", "--tuner=LoRA", "--tuner_type lora", "--tuner.name lora"])
def test_a_tuner_is_chosen_by_name(spelling: str) -> None:
    args = parse_args(SftArgs, [*spelling.split(), "--tuner.rank", "4", "--alpha", "2"])
    assert args.tuner == LoraArgs(rank=4, alpha=2)


def test_arguments_are_checked_by_their_own_class_last() -> None:
    # A class may refuse combinations; its error passes through as it is.
    class Refused(ValueError):
        pass

    @dataclass(kw_only=True)
    class Picky(DataArgs):
        def __post_init__(self) -> None:
            if self.packing:
                raise Refused

    @dataclass(kw_only=True)
    class PickyArgs(SftArgs):
        data: DataArgs = field(default_factory=Picky)

    with pytest.raises(Refused):
        parse_args(PickyArgs, ["--packing"])


def test_dry_run_is_no_part_of_the_arguments() -> None:
    line = parse_command_line(SftArgs, ["--dry-run", "--debug"])
    assert (line.dry_run, line.args) == (True, SftArgs())
    assert not parse_command_line(SftArgs, ["--dry_run", "no"]).dry_run


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--learning_rate", "abc"], InvalidValue, "--learning_rate is 'abc'; expected a number, or none"),
        (["--train.lr", "abc"], InvalidValue, "--train.lr is 'abc'; expected a number, or none"),
        (["--max_steps"], InvalidValue, "--max_steps needs a value; expected a whole number"),
        (["--seed", "1", "2"], InvalidValue, "--seed takes one value, not 2"),
        (["--truncation_strategy", "delet"], InvalidValue, "did you mean 'delete'?"),
        (["--learning_rat", "1"], UnknownOption, "--learning_rat is unknown; did you mean --learning_rate?"),
        (["--tuner"], InvalidCommandLine, "--tuner needs a value"),
        (["--tuner", "--rank", "3"], InvalidCommandLine, "--tuner needs a value"),
        (["--tuner", "lorra"], UnknownName, "tuner 'lorra' is unknown; did you mean 'lora'"),
        (["--tuner", "lora", "full"], InvalidValue, "--tuner takes one value, not 2: 'lora' 'full'"),
        (["--config"], InvalidCommandLine, "--config needs a value"),
        (["-lr", "1"], InvalidCommandLine, "'-lr' is no option; an option begins with two dashes"),
        (["--seed", "1", "--"], InvalidCommandLine, "'--' is no option"),
        (["lora"], InvalidCommandLine, "'lora' is neither an option, which begins with two dashes, nor a file of"),
        (["missing.yaml"], InvalidYaml, "the YAML file 'missing.yaml' does not exist"),
        (["a.yaml", "--config", "b.yaml"], InvalidCommandLine, "two files of options: 'a.yaml' and --config 'b.yaml'"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(words: list[str], error: type[SwiftCliError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_args(SftArgs, words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_between_the_file_and_the_options_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(InvalidCommandLine, match=r"'b.yaml' belongs to no option"):
        parse_args(SftArgs, [str(path), "b.yaml"])


def test_parsing_leaves_no_trace_in_the_defaults() -> None:
    first = parse_args(SftArgs, ["--dataset", "a"])
    first.data.dataset.append("b")
    first.tuner = replace(LoraArgs(), rank=1)
    assert parse_args(SftArgs, []) == SftArgs()
