"""Options in YAML: what a file may look like, what is refused, and that what is written reads back."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from swift_cli.command_line import parse_args, parse_command_line
from swift_cli.errors import InvalidCommandLine, InvalidYaml
from swift_cli.options import CHOICE, Option, Options
from swift_cli.yaml_file import dump_yaml, write_args
from swift_export.args import ExportArgs
from swift_infer.args import InferArgs
from swift_templates.args import TemplateArgs
from swift_train.args import SftArgs
from swift_tuners.args import ModelArgs
from swift_tuners.tuners.lora import LoraArgs


@dataclass(kw_only=True)
class Shapes:
    """A group with every type that an option can have."""

    text: str = "a"
    perhaps_text: str | None = None
    whole: int = 1
    number: float = 0.5
    perhaps_number: float | None = None
    switch: bool = False
    perhaps_switch: bool | None = None
    choice: Literal["none", "a b", "yes"] = "yes"
    perhaps_choice: Literal[4, 8] | None = None
    texts: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=lambda: [1.0])
    perhaps_texts: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)


@dataclass(kw_only=True)
class ShapesArgs:
    """All shapes."""

    shapes: Shapes = field(default_factory=Shapes)


def to_strategy(option: Option) -> st.SearchStrategy[object]:
    """Return values that an option can hold."""
    kind = option.kind
    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
    scalars: dict[type, st.SearchStrategy[object]] = {
        # Texts that YAML, or we, might take for something else.
        str: st.text()
        | st.sampled_from(
            ["none", "NULL", "~", "true", "1e-4", "1.0", "2024-01-01", "- a", "a: b", "#", "--x", "two\n\nlines\n"]
        ),
        int: st.integers(),
        float: st.floats(allow_nan=False) | st.integers(-9, 9),
        bool: st.booleans(),
        object: json,
    }
    one = st.sampled_from(kind.choices) if kind.choices else scalars[kind.scalar]
    shaped = {"one": one, "list": st.lists(one, max_size=3), "mapping": st.dictionaries(st.text(), one, max_size=3)}
    return shaped[kind.shape] | st.none() if kind.optional else shaped[kind.shape]


def to_args_strategy(args_class: type) -> st.SearchStrategy[object]:
    """Return instances of an argument class, every field drawn."""
    options = Options(args_class)
    drawn = {option.path: to_strategy(option) for option in options if option.group and option.name != CHOICE}

    def build(values: dict[str, object]) -> object:
        groups = {
            group: replace(defaults, **{each.name: values[f"{group}.{each.name}"] for each in fields(defaults)})
            for group, defaults in options.groups.items()
        }
        return args_class(**groups)

    return st.fixed_dictionaries(drawn).map(build)


@pytest.mark.parametrize("args_class", [ShapesArgs, SftArgs, InferArgs, ExportArgs])
def test_what_is_written_reads_back_equal(args_class: type, tmp_path: Path) -> None:
    path = tmp_path / "args.yaml"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(to_args_strategy(args_class))
    def check(args: ShapesArgs) -> None:
        path.write_text(dump_yaml(args), encoding="utf-8")
        read_back: ShapesArgs = parse_args(args_class, [str(path)])
        assert read_back == args
        assert dump_yaml(read_back) == path.read_text(encoding="utf-8")

    check()


def test_words_of_a_shell_that_are_no_unicode_read_back_equal(tmp_path: Path) -> None:
    # What Python makes of the byte 0xff on a command line.
    args = InferArgs()
    args.ask.prompt = "\udcff"
    path = write_args(args, tmp_path, command="infer")
    assert parse_args(InferArgs, [str(path)]) == args


@settings(max_examples=40, deadline=None)
@given(
    number=st.floats(allow_nan=False) | st.none(),
    text=st.text().filter(lambda text: text.lower() not in ("none", "null")),
)
def test_a_flag_and_a_file_mean_the_same(
    tmp_path_factory: pytest.TempPathFactory, number: float | None, text: str
) -> None:
    path = tmp_path_factory.mktemp("args") / "args.yaml"
    args = ShapesArgs(shapes=Shapes(perhaps_number=number, perhaps_text=text))
    path.write_text(dump_yaml(args), encoding="utf-8")
    words = [f"--perhaps_number={number}", f"--perhaps_text={text}"]
    assert parse_args(ShapesArgs, words) == parse_args(ShapesArgs, [str(path)]) == args


def test_a_written_file_names_its_command_its_version_and_the_tuner() -> None:
    text = dump_yaml(SftArgs(tuner=LoraArgs(rank=4)), command="sft")
    assert text.startswith("command: sft\nswift_version: 0.1.0\nmodel:\n  model: null\n")
    assert "tuner:\n  name: lora\n  rank: 4\n" in text


@pytest.mark.parametrize(
    "text",
    [
        "train: {learning_rate: 1e-4}\ntuner: {name: lora, rank: 8}\nmodel: {model: M}\n",
        "learning_rate: 1e-4\ntuner: lora\nrank: 8\nmodel: M\n",
        "lr: '1e-4'\ntrain_type: lora\nlora_rank: 8\nmodel_id_or_path: M\n",
        "train.learning-rate: .0001\ntuner.name: lora\ntuner.rank: 8\nmodel.model: M\n",
        "train: {lr: 1.0e-4}\ntuner: {rank: 8}\nmodel: {model: M}\ntemplate:\n",
    ],
    ids=["groups", "flat", "aliases", "paths", "mixed"],
)
def test_a_file_may_be_grouped_or_flat(text: str, tmp_path: Path) -> None:
    path = tmp_path / "that.yml"
    path.write_text(text)
    args = parse_args(SftArgs, [str(path)])
    assert (args.train.learning_rate, args.tuner, args.model) == (1e-4, LoraArgs(rank=8), ModelArgs(model="M"))
    assert args.template == TemplateArgs()


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("number: 1e-4", Shapes(number=1e-4)),
        ("number: -.inf", Shapes(number=-math.inf)),
        ("text: yes", Shapes(text="yes")),
        ("text: 0123", Shapes(text="0123")),
        ("text: 2024-01-01", Shapes(text="2024-01-01")),
        ("switch: Yes\nperhaps_switch: off", Shapes(switch=True, perhaps_switch=False)),
        ("perhaps_text: none\nperhaps_number: ~", Shapes()),
        ("perhaps_text: 'none'", Shapes(perhaps_text="none")),
        ("perhaps_text: |\n  two\n  lines\n", Shapes(perhaps_text="two\nlines\n")),
        ("choice: none", Shapes(choice="none")),
        ("perhaps_choice: 8", Shapes(perhaps_choice=8)),
        ("texts: a b", Shapes(texts=["a b"])),
        ("texts: [none, 'none', 1]", Shapes(texts=["none", "none", "1"])),
        ("texts: null", Shapes(texts=[])),
        ("numbers:\n- 1e-4\n- 2", Shapes(numbers=[1e-4, 2.0])),
        ("columns: {ask: query, 1: yes}", Shapes(columns={"ask": "query", "1": "yes"})),
        ('columns: \'{"ask": "query"}\'', Shapes(columns={"ask": "query"})),
        ("settings: {a: [1, null]}", Shapes(settings={"a": [1, None]})),
        ("# nothing\n", Shapes()),
    ],
)
def test_values_mean_what_their_option_makes_of_them(text: str, shapes: Shapes, tmp_path: Path) -> None:
    path = tmp_path / "shapes.yaml"
    path.write_text(text)
    assert parse_args(ShapesArgs, [str(path)]) == ShapesArgs(shapes=shapes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  learning_rat: 1\n", "line 2: train.learning_rat is unknown; did you mean train.learning_rate?"),
        ("seed: 1\nlearning_rat: 1\n", "line 2: learning_rat is unknown; did you mean learning_rate?"),
        ("trian:\n  seed: 1\n", "line 1: trian is unknown"),
        ("train: 5\n", "line 1: train is a group of options; name one, such as train.output_dir"),
        ("learning_rate: abc\n", "line 1: learning_rate is 'abc'; expected a number, or none"),
        ("max_steps: 1.5\n", "line 1: max_steps is '1.5'; expected a whole number"),
        ("max_steps:\n", "line 1: max_steps is 'null'; expected a whole number"),
        ("seed: [1]\n", "line 1: seed is a list that it cannot hold; expected a whole number"),
        ("dataset: [[a]]\n", "line 1: dataset is a list that it cannot hold"),
        ("dataset: [a, null]\n", "line 1: dataset is a list that it cannot hold"),
        ("columns: {a: [b]}\n", "line 1: columns is a mapping that it cannot hold"),
        ("seed: {a: b}\n", "line 1: seed is a mapping that it cannot hold"),
        ("seed: 1\ntrain:\n  seed: 2\n", "line 3: train.seed is set twice, first on line 1"),
        ("dry_run: true\n", "line 1: dry_run may only stand on the command line"),
        ("tuner: [lora]\n", "line 1: tuner is no name"),
        ("[a, b]: c\n", "line 1: expected an option's name before the colon"),
        ("- a\n", "line 1: expected options as 'name: value', or groups of them"),
        ("a: b: c\n", "line 1: this is not YAML: mapping values are not allowed here"),
        ("a: [1\n", "this is not YAML: "),
        ("a: *b\n", "line 1: this is not YAML: found undefined alias"),
        ("a: \x07\n", "this is not YAML: "),
        ("swift_version: 9.0.0\nnewer: 1\n", "line 2: newer is unknown; --help shows what is known (swift 9.0.0 wrote"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "that.yaml"
    path.write_text(text)
    with pytest.raises(InvalidYaml) as caught:
        parse_args(SftArgs, [str(path)])
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_python_object_in_a_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "that.yaml"
    path.write_text("settings: {a: !!python/object/apply:os.getcwd []}\n")
    with pytest.raises(InvalidYaml, match="line 1: settings is not plain YAML"):
        parse_args(ShapesArgs, [str(path)])


def test_a_file_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\xfe")
    for name, message in [
        ("folder.yaml", "cannot be read"),
        ("bytes.yaml", "is not UTF-8"),
        ("no.yaml", "does not exist"),
    ]:
        with pytest.raises(InvalidYaml, match=message):
            parse_args(SftArgs, [str(tmp_path / name)])


def test_a_file_of_another_command_is_refused(tmp_path: Path) -> None:
    path = write_args(InferArgs(), tmp_path, command="infer")
    with pytest.raises(InvalidCommandLine, match="holds options of 'swift infer', not of 'swift sft'"):
        parse_command_line(SftArgs, [str(path)], command="sft")
    assert parse_command_line(InferArgs, [str(path)], command="infer").args == InferArgs()


def test_args_are_written_beside_those_of_another_command(tmp_path: Path) -> None:
    assert write_args(SftArgs(), tmp_path, command="sft").name == "args.yaml"
    assert write_args(InferArgs(), tmp_path, command="infer").name == "infer_args.yaml"
    assert write_args(SftArgs(), tmp_path, command="sft").name == "args.yaml"
    assert parse_args(SftArgs, [str(tmp_path / "args.yaml")]) == SftArgs()


def test_a_file_for_another_tuner_loses_that_tuners_options_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other_tuner: str
) -> None:
    path = tmp_path / "that.yaml"
    path.write_text("tuner: {name: lora, rank: 4}\nlora_alpha: 2\nseed: 1\n")
    with caplog.at_level(logging.WARNING):
        args = parse_args(SftArgs, [str(path), "--tuner", other_tuner, "--strength", "3"])
    assert (type(args.tuner).__name__, vars(args.tuner), args.train.seed) == ("OtherArgs", {"strength": 3}, 1)
    assert caplog.messages == [
        f"the tuner is '{other_tuner}', so these options of 'lora' in the file have no effect: tuner.rank, tuner.alpha"
    ]
    assert parse_args(SftArgs, [str(path), "--tuner", "lora", "--rank", "5"]).tuner == LoraArgs(rank=5, alpha=2)
    assert dump_yaml(args).count(f"tuner:\n  name: {other_tuner}\n  strength: 3\n") == 1
