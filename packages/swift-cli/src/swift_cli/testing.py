"""The laws that every command keeps, for the tests of whoever adds one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .command import COMMANDS, Command
from .command_line import parse_args
from .options import Options
from .yaml_file import dump_yaml, write_args


def check_command(name: str) -> None:
    """Check that the command of this name can be shown, spelled and repeated.

    Every option has a help text and a type that a command line can spell, the overview has a line for the command, and
    the defaults survive being written as YAML and read back.

    Raises:
        AssertionError: one of these does not hold.
        UnsupportedOption: the argument class is no dataclass of groups, or a field's type cannot be spelled.
    """
    command = COMMANDS.load(name)
    assert isinstance(command, Command), f"{name} is {command!r}; expected an instance of Command"
    assert command.summary, f"{command.args.__name__} has no docstring"
    options = Options(command.args)
    for option in options:
        assert option.read_help(), f"{option.path} has no help text: put a string literal under the field"
        assert options.find(option.path) == options.find(option.flag) == option
    for group, defaults in options.groups.items():
        assert type(defaults).__doc__, f"the class of {group} has no docstring"
    defaults = command.args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_args(defaults, Path(folder), command=name)
        read_back = parse_args(command.args, [str(path)])
        assert read_back == defaults, f"the defaults of {name} change when written as YAML"
        assert dump_yaml(read_back) == dump_yaml(defaults)
