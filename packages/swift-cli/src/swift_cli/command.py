"""What a command is: an argument class and a function that runs with it.

A file in `swift_cli/commands/` defines exactly one `Command`; its name is what users type. Other distributions add
theirs under the entry-point group `swift_cli.commands`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swift_templates.registry import Registry

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Args = TypeVar("Args", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Invocation(Generic[Args]):
    """One use of a command.

    Attributes:
        command: its name.
        words: what followed the name on the command line.
        args: what the words, and the YAML file among them, say.
    """

    command: str
    words: Sequence[str]
    args: Args

    @property
    def argv(self) -> list[str]:
        """The command line as typed, without `swift`."""
        return [self.command, *self.words]

    def write_args(self, folder: Path) -> None:
        """Write the arguments into a folder, as a YAML file that repeats the run."""
        from .yaml_file import write_args

        write_args(self.args, folder, command=self.command)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Args]):
    """A command of `swift`.

    Attributes:
        args: its argument class, a dataclass of groups; its docstring's first line is the command's in the overview.
        run: does the work and returns the exit code. It imports what it needs itself, so that a help text is quick.
    """

    args: type[Args]
    run: Callable[[Invocation[Args]], int]

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return inspect.cleandoc(self.args.__doc__ or "").partition("\n")[0]


COMMANDS: Registry[Command[Any]] = Registry(kind="command", package="swift_cli.commands", base=Command)
"""All commands, by name."""
