"""Options in YAML: reading a file that a user wrote or a run left, and writing one that repeats a run.

The only module that imports yaml. A file is read as texts with line numbers, never as YAML's own types: `values.Kind`
reads them as on a command line, so that `1e-4` is a number and a text `yes` stays a text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import yaml

from ._version import __version__
from .errors import InvalidValue, InvalidYaml, UnknownOption
from .options import CHOICE, Option, Options, find_name, find_registries
from .values import NOTHING, to_kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ARGS_FILE = "args.yaml"

# What wrote a file: keys beside the options.
COMMAND, VERSION = "command", "swift_version"

_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One option in a file: how it is spelled there, its value as YAML parsed it, its line."""

    spelling: str
    node: yaml.Node
    line: int


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    """The options in a file, not yet understood.

    Attributes:
        path: the file, as the user named it.
        command: the command that wrote it; None in a file written by hand.
        version: of the swift that wrote it; None in a file written by hand.
        entries: its options in order, those within a group as `group.name`.
    """

    path: str
    command: str | None
    version: str | None
    entries: tuple[Entry, ...]

    def read(self, options: Options) -> dict[str, object]:
        """Return the values that the file gives, by option path.

        Raises:
            InvalidYaml: a key is unknown or stands twice, or a value is wrong; the message names file and line.
        """
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for entry in self.entries:
            option = self._find(entry, options)
            if option.path in values:
                raise self.refuse(entry.line, f"{option.path} is set twice, first on line {lines[option.path]}")
            try:
                values[option.path] = _read_node(option, entry.node)
            except InvalidValue as error:
                raise self.refuse(entry.line, f"{entry.spelling} {error}") from None
            except yaml.MarkedYAMLError as error:
                raise self.refuse(entry.line, f"{entry.spelling} is not plain YAML: {error.problem}") from None
            lines[option.path] = entry.line
        return values

    def find_text(self, spellings: Collection[str]) -> str | None:
        """Return the text under the first key that is one of these, as it stands; None if there is none."""
        for entry in self.entries:
            if entry.spelling.replace("-", "_") in spellings:
                if not isinstance(entry.node, yaml.ScalarNode):
                    raise self.refuse(entry.line, f"{entry.spelling} is no name")
                return str(entry.node.value)
        return None

    def refuse(self, line: int, reason: str) -> InvalidYaml:
        """Return the error for something on this line."""
        return InvalidYaml(f"{self.path}, line {line}: {reason}")

    def _find(self, entry: Entry, options: Options) -> Option:
        try:
            option = options.find(entry.spelling, dashes="")
        except UnknownOption as error:
            other = self.version not in (None, __version__)
            writer = f" (swift {self.version} wrote this file; this is {__version__})" if other else ""
            raise self.refuse(entry.line, f"{error}{writer}") from None
        if not option.group:
            raise self.refuse(entry.line, f"{option.name} may only stand on the command line")
        return option


def read_yaml(path: str, *, groups: Collection[str]) -> YamlFile:
    """Read a file of options.

    Args:
        path: the file.
        groups: names of the groups whose options may stand below the group's name.

    Raises:
        InvalidYaml: it cannot be read, is no YAML, or is no mapping from texts.
    """
    header: dict[str, str] = {}
    entries: list[Entry] = []
    for key, node in _items(path, _compose(path)):
        if key.value in (COMMAND, VERSION) and isinstance(node, yaml.ScalarNode):
            header[key.value] = node.value
        elif key.value in groups and isinstance(node, yaml.ScalarNode) and _is_null(node):
            # All that stood below the group is commented out.
            continue
        elif key.value in groups and isinstance(node, yaml.MappingNode):
            entries += [Entry(f"{key.value}.{name.value}", value, _line(name)) for name, value in _items(path, node)]
        else:
            entries.append(Entry(key.value, node, _line(key)))
    return YamlFile(path=path, command=header.get(COMMAND), version=header.get(VERSION), entries=tuple(entries))


def dump_yaml(args: DataclassInstance, *, command: str | None = None) -> str:
    """Return every option of `args` as YAML, grouped as in the argument class; reading it back gives equal arguments.

    Args:
        args: an argument class's instance, such as SftArgs.
        command: if given, the file says that it belongs to this command.
    """
    content: dict[str, object] = {COMMAND: command, VERSION: __version__} if command else {}
    registries = find_registries(type(args))
    for each in fields(args):
        group = getattr(args, each.name)
        choice = {CHOICE: find_name(registries[each.name], type(group))} if each.name in registries else {}
        annotations = get_type_hints(type(group))
        values = {own.name: getattr(group, own.name) for own in fields(group)}
        content[each.name] = choice | {name: to_kind(annotations[name]).normalize(values[name]) for name in values}
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
    return text


def write_args(args: DataclassInstance, folder: Path, *, command: str) -> Path:
    """Write args.yaml into a folder, from which `swift COMMAND args.yaml` repeats the run.

    Where another command's args.yaml stands already, such as that of the run whose answers are written beside it, the
    file is named COMMAND_args.yaml.

    Returns:
        The file.
    """
    path = folder / ARGS_FILE
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(f"{COMMAND}: {command}\n"):
        path = folder / f"{command}_{ARGS_FILE}"
    path.write_text(dump_yaml(args, command=command), encoding="utf-8")
    return path


def _compose(path: str) -> yaml.Node:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidYaml(f"the YAML file {path!r} does not exist") from None
    except OSError as error:
        raise InvalidYaml(f"the YAML file {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidYaml(f"the YAML file {path!r} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidYaml(f"{path}{line}: this is not YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise InvalidYaml(f"{path}: this is not YAML: {error.reason} at position {error.position}") from None
    # An empty file sets nothing.
    return yaml.MappingNode("", []) if node is None else node


def _items(path: str, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise InvalidYaml(f"{path}, line {_line(node)}: expected options as 'name: value', or groups of them")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidYaml(f"{path}, line {_line(key)}: expected an option's name before the colon")
        yield key, value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _read_node(option: Option, node: yaml.Node) -> object:
    kind = option.kind
    if isinstance(node, yaml.ScalarNode):
        if node.style and kind.scalar is str and kind.shape != "mapping":
            # In quotes, none is the text.
            text = option.read_word(node.value)
            return [text] if kind.shape == "list" else text
        return option.read([_text_of(option, node)])
    if isinstance(node, yaml.SequenceNode) and kind.shape == "list":
        if all(isinstance(item, yaml.ScalarNode) and not _is_null(item) for item in node.value):
            return [option.read_word(_text_of(option, item)) for item in node.value]
    elif isinstance(node, yaml.MappingNode) and kind.shape == "mapping":
        if kind.scalar is object:
            return yaml.SafeLoader("").construct_document(node)
        if all(isinstance(each, yaml.ScalarNode) and not _is_null(each) for item in node.value for each in item):
            return {key.value: option.read_word(_text_of(option, value)) for key, value in node.value}
    shapes = {yaml.ScalarNode: "a value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    raise InvalidValue(f"is {shapes[type(node)]} that it cannot hold; expected {kind.expected}")


def _is_null(node: yaml.ScalarNode) -> bool:
    return not node.style and node.value.lower() in ("", "~", "null")


def _text_of(option: Option, node: yaml.ScalarNode) -> str:
    if _is_null(node):
        return "null"
    text: str = node.value
    # YAML writes .inf what Python writes inf.
    return _SPECIAL_FLOAT.sub(r"\1\2", text) if option.kind.scalar is float and _SPECIAL_FLOAT.fullmatch(text) else text


class _Dumper(yaml.SafeDumper):
    """Writes texts so that they are read back as texts, and every value in full."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_choose_style(text))


def _choose_style(text: str) -> str | None:
    if text.lower() in NOTHING:
        # In quotes, none is the text.
        return "'"
    if text.isprintable():
        return None
    lines = text.split("\n")
    if lines[0][:1].strip() and all(line.isprintable() and line == line.rstrip() for line in lines):
        return "|"
    # With escapes: PyYAML's other styles lose some of the line breaks that Unicode knows.
    return '"'


_Dumper.add_representer(str, _represent_text)
