from ._version import __version__ as __version__
from .command import COMMANDS as COMMANDS
from .command import Command as Command
from .command import Invocation as Invocation
from .command_line import parse_args as parse_args
from .errors import SwiftCliError as SwiftCliError
from .main import main as main
from .yaml_file import dump_yaml as dump_yaml

__all__ = [
    "COMMANDS",
    "Command",
    "Invocation",
    "SwiftCliError",
    "dump_yaml",
    "main",
    "parse_args",
]
