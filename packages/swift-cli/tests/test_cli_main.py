"""What `swift` prints, and the exit code it leaves with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from swift_cli.command import COMMANDS, Command, Invocation
from swift_cli.command_line import parse_args
from swift_cli.main import find_error_roots, main, run_command
from swift_cli.testing import check_command
from swift_train.args import SftArgs

Install = Callable[[str, str, str], None]

TRY = '''
from dataclasses import dataclass, field
from pathlib import Path
from swift_cli import Command
from swift_data.errors import SwiftDataError

@dataclass(kw_only=True)
class What:
    """What goes wrong."""

    what: str = "nothing"
    """A mistake, a bug, an interruption, or nothing."""

@dataclass(kw_only=True)
class TryArgs:
    """Try what swift does with an error."""

    what: What = field(default_factory=What)

class BadRow(SwiftDataError, ValueError):
    pass

def run(invocation):
    if invocation.args.what.what == "mistake":
        raise BadRow("row 3 is bad;\\n\\nexpected a good one")
    if invocation.args.what.what == "bug":
        raise ValueError("a bug")
    if invocation.args.what.what == "interruption":
        raise KeyboardInterrupt
    if Path(invocation.args.what.what).is_dir():
        invocation.write_args(Path(invocation.args.what.what))
    print("done", invocation.argv)
    return 3

TRY = Command(args=TryArgs, run=run)
'''


@pytest.fixture
def try_command(install: Install) -> str:
    """A command of another distribution; returns its name."""
    install("swift_cli.commands", "try", TRY)
    return "try"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_swift_alone_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    for name in ("sft", "infer", "export"):
        assert f"\n  {name}" in out
    assert "Supervised fine-tuning: the model learns" in out
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80


def test_the_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == ("swift 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stf"], "swift: error: command 'stf' is unknown; did you mean 'sft'?\n"),
        (["--tuner", "lora"], "swift: error: '--tuner' stands before a command; expected one of "),
        (
            ["sft", "--learning_rat", "1"],
            "swift sft: error: --learning_rat is unknown; did you mean --learning_rate?\n",
        ),
        (["sft", "--lr", "abc"], "swift sft: error: --lr is 'abc'; expected a number, or none\n"),
        (["sft", "--tuner", "lorra"], "swift sft: error: tuner 'lorra' is unknown; did you mean 'lora'"),
        (["sft", "--tuner", "lorra", "--help"], "swift sft: error: tuner 'lorra' is unknown; did you mean 'lora'"),
        (["sft", "no.yaml"], "swift sft: error: the YAML file 'no.yaml' does not exist\n"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_paragraph(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_command_gets_its_arguments_and_gives_the_exit_code(
    try_command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["Try", "--what", str(tmp_path)]) == 3
    assert capsys.readouterr().out == f"done {['try', '--what', str(tmp_path)]}\n"


def test_the_file_that_a_run_writes_repeats_it(
    try_command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["try", "--what", str(tmp_path)])
    path = tmp_path / "args.yaml"
    first = path.read_text()
    assert first == f"command: try\nswift_version: 0.1.0\nwhat:\n  what: {tmp_path}\n"
    path.rename(tmp_path / "that.yaml")
    assert main(["try", str(tmp_path / "that.yaml")]) == 3
    assert path.read_text() == first


def test_a_mistake_found_while_running_is_one_paragraph(try_command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "--what", "mistake"]) == 2
    assert capsys.readouterr() == ("", "swift try: error: row 3 is bad;\nexpected a good one\n")


@pytest.mark.parametrize("debug", [["--debug"], ["--debug=true"]])
def test_debug_shows_the_traceback_of_a_mistake(
    try_command: str, debug: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["try", "--what", "mistake", *debug]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("swift try: error: row 3 is bad;\nexpected a good one\n")


def test_anything_but_our_errors_is_a_bug_and_passes_through(try_command: str) -> None:
    with pytest.raises(ValueError, match="a bug"):
        main(["try", "--what", "bug"])


def test_an_interruption_is_one_line(try_command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "--what", "interruption"]) == 130
    assert capsys.readouterr() == ("", "swift try: interrupted\n")


def test_one_of_several_processes_says_which_it_is(
    try_command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    main(["try", "--what", "mistake"])
    assert capsys.readouterr().err.startswith("[process 1] swift try: error: row 3 is bad;")


def test_a_dry_run_prints_what_would_be_used_and_stops(
    try_command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["try", "--what", "bug", "--dry_run"]) == 0
    assert capsys.readouterr() == ("command: try\nswift_version: 0.1.0\nwhat:\n  what: bug\n", "")


def test_a_dry_run_read_back_gives_the_same_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset", "a.jsonl#500", "b.jsonl", "--tuner", "lora", "--lora_rank", "16", "--lr", "1e-4", "--packing"]
    assert main(["sft", *words, "--dry_run"]) == 0
    path = tmp_path / "that.yaml"
    path.write_text(capsys.readouterr().out)
    assert parse_args(SftArgs, [str(path)]) == parse_args(SftArgs, words)


def test_a_command_that_another_distribution_adds_is_listed(
    try_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    assert "  try       Try what swift does with an error." in capsys.readouterr().out


def test_a_broken_command_does_not_hide_the_others(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("swift_cli.commands", "broken", "nothing = 1")
    assert main([]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "broken (cannot be used: broken_of_a_test defines 0 public components;" in out
    assert "sft Supervised fine-tuning" in out


def test_a_command_can_run_without_being_registered(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def run(invocation: Invocation[SftArgs]) -> int:
        seen.append(invocation)
        return 0

    assert run_command(Command(args=SftArgs, run=run), "mine", ["--seed", "3"]) == 0
    assert (seen[0].argv, seen[0].args.train.seed) == (["mine", "--seed", "3"], 3)


@pytest.mark.parametrize("name", COMMANDS.names())
def test_every_command_keeps_the_laws(name: str) -> None:
    check_command(name)


def test_a_command_of_another_distribution_keeps_the_laws(try_command: str) -> None:
    check_command(try_command)


def test_the_error_roots_are_those_of_every_package() -> None:
    names = ["SwiftCliError", "SwiftDataError", "SwiftExportError", "SwiftInferError"]
    names += ["SwiftTemplatesError", "SwiftTrainError", "SwiftTunersError"]
    assert [root.__name__ for root in find_error_roots()] == names


def test_an_unknown_log_level_is_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert main(["sft", "--dataset", "missing.jsonl"]) == 2
    assert "LOG_LEVEL is 'LOUD'; expected one of CRITICAL" in capsys.readouterr().err
