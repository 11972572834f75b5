"""The `swift` command: finds the command that a user named, gives it its arguments, and says what went wrong.

A mistake of the user, which is any error that a swift package raises on purpose, is one paragraph and exit code 2.
Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any

from swift_templates.errors import BrokenComponent, MissingDependency

from ._version import __version__
from .command import COMMANDS, Command, Invocation
from .errors import InvalidCommandLine

EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_NO_READER = 2, 130, 141

_HELP = frozenset({"-h", "--help"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run `swift` with these words, by default those of the process, and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    prog = "swift"
    try:
        if not words or words[0] in _HELP:
            print(describe_commands())
            exit_code = 0
        elif words[0] == "--version":
            print(f"swift {__version__}")
            exit_code = 0
        else:
            name, command = load_command(words[0])
            prog = f"swift {name}"
            exit_code = run_command(command, name, words[1:])
        sys.stdout.flush()
        return exit_code
    except KeyboardInterrupt:
        _complain(f"{prog}: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has gone. Python would complain of it once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_READER
    except find_error_roots() as error:
        if _is_debugging(words):
            traceback.print_exc()
        _complain(f"{prog}: error: {error}")
        return EXIT_MISTAKE


def load_command(word: str) -> tuple[str, Command[Any]]:
    """Return the name and the command that a user's first word names.

    Raises:
        InvalidCommandLine: it is an option.
        SwiftTemplatesError: there is no such command, or it cannot be imported; raised by the registry.
    """
    if word.startswith("-"):
        raise InvalidCommandLine(
            f"{word!r} stands before a command; expected one of {', '.join(COMMANDS.names())} first"
        )
    command = COMMANDS.load(word)
    assert isinstance(command, Command)
    return word.replace("-", "_").lower(), command


def run_command(command: Command[Any], name: str, words: Sequence[str]) -> int:
    """Run one command with the words after its name, and return the exit code.

    Raises:
        SwiftCliError: the words are no arguments of this command. What the command raises passes through.
    """
    # These two bring in tyro and yaml, which the overview does without.
    from swift_tuners.models.quiet import hide_import_notes

    from .command_line import parse_command_line, show_help

    if not _HELP.isdisjoint(words):
        show_help(command.args, words, prog=f"swift {name}")
        return 0
    line = parse_command_line(command.args, words, command=name)
    if line.dry_run:
        from .yaml_file import dump_yaml

        print(dump_yaml(line.args, command=name), end="")
        return 0
    show_log()
    hide_import_notes()
    return command.run(Invocation(command=name, words=words, args=line.args))


def show_log() -> None:
    """Let our packages' notices appear on standard error: at INFO, or the level that LOG_LEVEL names.

    Raises:
        InvalidCommandLine: there is no such level.
    """
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        known = ", ".join(logging.getLevelNamesMapping())
        raise InvalidCommandLine(f"the environment's LOG_LEVEL is {level!r}; expected one of {known}")
    # Of several processes the first speaks for all.
    chosen = level if os.environ.get("RANK", "0") == "0" else "ERROR"
    logging.basicConfig(format="%(message)s")
    for package in ("cli", "data", "export", "infer", "templates", "train", "tuners"):
        logging.getLogger(f"swift_{package}").setLevel(chosen)


def describe_commands() -> str:
    """Return the overview that `swift` alone shows."""
    commands = {name: _summarize(name) for name in COMMANDS.names()}
    width = max(map(len, commands)) + 4
    lines = [
        textwrap.fill(summary, 80, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width)
        for name, summary in commands.items()
    ]
    return "\n".join(
        [
            "usage: swift COMMAND [FILE.yaml] [--OPTION VALUE ...]",
            "",
            "commands:",
            *lines,
            "",
            "swift COMMAND --help shows a command's options, swift --version the version.",
        ]
    )


def find_error_roots() -> tuple[type[Exception], ...]:
    """Return the root of each package's errors; called only when there is an error."""
    from swift_data.errors import SwiftDataError
    from swift_export.errors import SwiftExportError
    from swift_infer.errors import SwiftInferError
    from swift_templates.errors import SwiftTemplatesError
    from swift_train.errors import SwiftTrainError
    from swift_tuners.errors import SwiftTunersError

    from .errors import SwiftCliError

    return (
        SwiftCliError,
        SwiftDataError,
        SwiftExportError,
        SwiftInferError,
        SwiftTemplatesError,
        SwiftTrainError,
        SwiftTunersError,
    )


def _summarize(name: str) -> str:
    try:
        return load_command(name)[1].summary
    except (BrokenComponent, MissingDependency) as error:
        # One broken command, of whatever distribution, must not hide the others.
        return f"(cannot be used: {error})"


def _complain(message: str) -> None:
    """Print one paragraph to stderr; in a run of several processes, all but the first say which they are."""
    rank = os.environ.get("RANK", "0")
    paragraph = "\n".join(line for line in message.splitlines() if line.strip())
    print(paragraph if rank == "0" else f"[process {rank}] {paragraph}", file=sys.stderr)


def _is_debugging(words: Sequence[str]) -> bool:
    return any(word == "--debug" or word.lower() in ("--debug=true", "--debug=yes", "--debug=1") for word in words)
