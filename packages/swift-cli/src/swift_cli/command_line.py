"""From the words of a command line to the arguments of a command.

Defaults, a YAML file and flags each give values by option path; precedence is one laid over the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import PurePath
from typing import TYPE_CHECKING, Generic, TypeVar

from .aliases import ALIASES
from .errors import InvalidCommandLine, InvalidValue
from .options import CHOICE, Options, find_registries
from .parser import looks_like_flag, print_help, read_flags
from .yaml_file import YamlFile, read_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Args = TypeVar("Args", bound="DataclassInstance")


logger = logging.getLogger(__name__)

ACTION = "action"
"""An option of this name may stand right after the command, by its value alone."""

_YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class CommandLine(Generic[Args]):
    """What a command line says.

    Attributes:
        args: for the command.
        dry_run: whether to print them and stop.
    """

    args: Args
    dry_run: bool


def parse_args(args_class: type[Args], words: Sequence[str]) -> Args:
    """Return the arguments that the words after a command spell: `[FILE.yaml] [--option value ...]`.

    Args:
        args_class: a dataclass of groups, such as SftArgs.
        words: as a shell would split them.

    Raises:
        SwiftCliError: they spell none; see the message.
        SwiftTunersError: the tuner is unknown.
    """
    return parse_command_line(args_class, words).args


def parse_command_line(
    args_class: type[Args], words: Sequence[str], *, command: str | None = None
) -> CommandLine[Args]:
    """Return all that the words after a command say.

    Args:
        args_class: a dataclass of groups, such as SftArgs.
        words: as a shell would split them.
        command: its name, which a YAML file that names one must name; by default any will do.

    Raises:
        SwiftCliError, SwiftTunersError: as `parse_args`.
    """
    words = _spell_action(args_class, words)
    file = _read_file(args_class, words, command=command)
    chosen = _find_chosen(args_class, file.find_text) if file else {}
    file_options = Options(args_class, chosen=chosen)
    values = file.read(file_options) if file else {}
    options = Options(args_class, chosen=chosen | _find_chosen(args_class, partial(_find_last, words)))
    for group, name in options.chosen.items():
        if name != file_options.chosen[group]:
            values = _leave_out(group, values, given=name, in_file=file_options.chosen[group])
    by_path = {option.path: option for option in options}
    for path, flag in read_flags(options, words).items():
        try:
            values[path] = by_path[path].read(flag.words)
        except InvalidValue as error:
            raise InvalidValue(f"{flag.spelling} {error}") from None
    return CommandLine(args=_build(options, args_class, values), dry_run=bool(values.get("dry_run")))


def show_help(args_class: type[DataclassInstance], words: Sequence[str], *, prog: str) -> None:
    """Print the options of a command, with those of the groups that the words choose by name.

    Raises:
        SwiftCliError, SwiftTunersError: a name is missing or unknown.
    """
    print_help(Options(args_class, chosen=_find_chosen(args_class, partial(_find_last, words))), prog=prog)


def _spell_action(args_class: type[DataclassInstance], words: Sequence[str]) -> list[str]:
    """Return the words with an action that follows the command, as in `swift template show`, as the option it is."""
    first = "".join(words[:1])
    is_action = bool(first) and not looks_like_flag(first) and PurePath(first).suffix.lower() not in _YAML_SUFFIXES
    groups = [getattr(args_class(), each.name) for each in fields(args_class)] if is_action else []
    if not any(each.name == ACTION for group in groups for each in fields(group)):
        return list(words)
    return [*words[1:], f"--{ACTION}", first]


def _build(options: Options, args_class: type[Args], values: dict[str, object]) -> Args:
    groups = {}
    for name, defaults in options.groups.items():
        given = {each.name: values[path] for each in fields(defaults) if (path := f"{name}.{each.name}") in values}
        groups[name] = replace(defaults, **given)
    return args_class(**groups)


def _read_file(args_class: type[DataclassInstance], words: list[str], *, command: str | None) -> YamlFile | None:
    path = _find_last(words, {"config"})
    if words and not looks_like_flag(words[0]):
        first = words.pop(0)
        if PurePath(first).suffix.lower() not in _YAML_SUFFIXES:
            raise InvalidCommandLine(
                f"{first!r} is neither an option, which begins with two dashes, nor a file of options (.yaml, .yml)"
            )
        if path is not None:
            raise InvalidCommandLine(f"two files of options: {first!r} and --config {path!r}; name one")
        path = first
    if path is None:
        return None
    file = read_yaml(path, groups={each.name for each in fields(args_class)})
    if command and file.command not in (None, command):
        raise InvalidCommandLine(f"{path} holds options of 'swift {file.command}', not of 'swift {command}'")
    return file


def _find_chosen(args_class: type[DataclassInstance], find: Callable[[Collection[str]], str | None]) -> dict[str, str]:
    """Return the names that groups are chosen by: they must be known before the options of these groups can be."""
    chosen = {}
    for group in find_registries(args_class):
        name = find({group, f"{group}.{CHOICE}"} | {alias for alias, spelling in ALIASES.items() if spelling == group})
        if name is not None:
            chosen[group] = name
    return chosen


def _find_last(words: Sequence[str], spellings: Collection[str]) -> str | None:
    """Return the value of a flag that is needed before the others can be read."""
    found = None
    for word, following in zip_longest(words, words[1:], fillvalue="--"):
        spelling, equals, value = word.partition("=")
        if word.startswith("--") and spelling[2:].replace("-", "_") in spellings:
            if not equals and looks_like_flag(following):
                raise InvalidCommandLine(f"{spelling} needs a value")
            found = value if equals else following
    return found


def _leave_out(group: str, values: dict[str, object], *, given: str, in_file: str) -> dict[str, object]:
    left_out = [path for path in values if path.startswith(f"{group}.") and path != f"{group}.{CHOICE}"]
    if left_out:
        logger.warning(
            "the %s is %r, so these options of %r in the file have no effect: %s",
            group,
            given,
            in_file,
            ", ".join(left_out),
        )
    return {path: value for path, value in values.items() if path not in left_out}
