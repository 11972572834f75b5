"""The help of a command: every option once, and readable."""

from __future__ import annotations

import re

import pytest
from swift_cli.command import COMMANDS
from swift_cli.main import main
from swift_cli.options import Options


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def read_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a help prints."""
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def unbox(out: str) -> str:
    """Return a help as running text, without the lines of its boxes."""
    lines = [line.strip("│ ") for line in out.splitlines()]
    return " ".join(" ".join(line for line in lines if not set(line) <= set("─-")).split())


@pytest.mark.parametrize("name", COMMANDS.names())
@pytest.mark.usefixtures("narrow")
def test_each_option_stands_once_under_its_shortest_spelling(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = read_help([name, "--help"], capsys)
    command = COMMANDS.load(name)
    assert not isinstance(command, type)
    flags = re.findall(r"^[│ ] --([a-z]\S*)", out, flags=re.MULTILINE)
    assert sorted(flags) == sorted(option.flag for option in Options(command.args))
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("narrow")
def test_an_option_shows_its_type_default_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    unboxed = unbox(read_help(["sft", "-h"], capsys))
    assert "--torch_dtype {auto,float32,bfloat16,float16} Type of the weights; auto is bfloat16 where" in unboxed
    assert "computes in it natively, else float32. (default: auto)" in unboxed
    assert "--max_steps INT Optimizer steps; if positive, it overrides num_train_epochs. (default: -1)" in unboxed
    assert "--dataset [TEXT ...] Training sets: files, folders, known names" in unboxed
    assert "--learning_rate FLOAT|none Peak learning rate" in unboxed
    assert "Which model, and how it is loaded. --model TEXT" in unboxed
    assert "An option may be spelled with its group" in unboxed


@pytest.mark.usefixtures("narrow")
def test_help_shows_the_options_of_the_tuner_that_is_named(
    other_tuner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    default = unbox(read_help(["sft", "--help"], capsys))
    assert "--tuner TEXT Which tuner: " in default and " lora, " in default and " other, " in default
    assert "Each has options of its own, which --tuner NAME --help shows" in default
    assert "--rank INT" in default

    other = read_help(["sft", "--tuner", other_tuner, "--help"], capsys)
    assert "--strength INT" in other
    assert "--rank" not in other
    assert re.search(r"--tuner TEXT.*\(default: other\)", unbox(other))


def test_help_needs_nothing_else_to_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: swift sft" in read_help(["sft", "--learning_rat", "x", "--help"], capsys)
