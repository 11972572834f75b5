"""The border to tyro: options become its flags, it sorts a command line's words by flag and lays out the help.

The only module that imports tyro. It gets finished spellings and gives words back; what a word means is `values.Kind`'s
business, so that a value on the command line and one in YAML are read, and refused, alike.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from .errors import InvalidCommandLine
from .options import Option, Options

_NEGATIVE = re.compile(r"-([0-9.]|inf$|infinity$|nan$)", re.IGNORECASE)


@dataclass(frozen=True)
class Given:
    """The words after a flag, in tyro's result; where an option was not given, its default stands in this place."""

    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One option as it was written on a command line: by which spelling, with its dashes, and with which words."""

    spelling: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ParsedFlags:
    """What tyro builds: by name, a group's mapping or an option of the command line itself."""

    values: Mapping[str, object]


def read_flags(options: Options, words: Sequence[str]) -> dict[str, Flag]:
    """Return the options that a command line gives, by the option's path.

    Of an option given twice the later one counts.

    Raises:
        UnknownOption: a flag is unknown or not unique.
        InvalidCommandLine: a word belongs to no flag.
    """
    spellings: dict[str, str] = {}
    known = list(_spell(options, words, spellings))
    given = _run_tyro(options, known, prog="swift")
    return {path: Flag(spelling=spellings[path], words=value.words) for path, value in given}


def print_help(options: Options, *, prog: str) -> None:
    """Print what a command does and all its options."""
    print(f"{_wrap(inspect.cleandoc(options.args_class.__doc__ or ''))}\n", flush=True)
    # tyro leaves after its help.
    with contextlib.suppress(SystemExit):
        list(_run_tyro(options, ["--help"], prog=f"{prog} [FILE.yaml]"))
    long = next(
        (option.path for option in options if option.group and option.flag not in (option.group, option.path)),
        "GROUP.OPTION",
    )
    print(
        _wrap(
            f"An option may be spelled with its group, --{long}, and with hyphens. A YAML file right after the command "
            "gives options too; flags override it."
        )
    )


def _run_tyro(options: Options, words: Sequence[str], *, prog: str) -> Iterator[tuple[str, Given]]:
    registry = ConstructorRegistry()
    registry.struct_rule(_build_rule(options))
    parsed = tyro.cli(ParsedFlags, prog=prog, description="", args=words, use_underscores=True, registry=registry)
    for option in options:
        values = parsed.values[option.group] if option.group else parsed.values
        assert isinstance(values, Mapping)
        value = values[option.name]
        if isinstance(value, Given):
            yield option.path, value


def _wrap(text: str) -> str:
    return textwrap.fill(text, min(80, shutil.get_terminal_size().columns))


def _build_rule(options: Options) -> Callable[[StructTypeInfo], StructConstructorSpec | None]:
    # A class for each group, so that two groups of one type stay apart.
    sections = {name: type(name, (), {}) for name in options.groups}
    groups = {section: name for name, section in sections.items()}

    def build_spec(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is ParsedFlags:
            own = _to_fields(option for option in options if not option.group)
            nested = (
                StructFieldSpec(
                    name, section, tyro.MISSING_NONPROP, inspect.cleandoc(type(options.groups[name]).__doc__ or "")
                )
                for name, section in sections.items()
            )
            return StructConstructorSpec(instantiate=lambda **values: ParsedFlags(values), fields=(*own, *nested))
        if info.type in groups:
            group = groups[info.type]
            return StructConstructorSpec(
                instantiate=dict, fields=tuple(_to_fields(each for each in options if each.group == group))
            )
        return None

    return build_spec


def _to_fields(options: Iterator[Option]) -> Iterator[StructFieldSpec]:
    for option in options:
        words = PrimitiveConstructorSpec(
            # Any number: how many are right, and what to say if not, is the kind's business.
            nargs="*",
            metavar=option.kind.metavar,
            instance_from_str=lambda words: Given(tuple(words)),
            is_instance=lambda value: True,
            str_from_instance=lambda value: [],
        )
        is_short = option.flag != option.path
        display = tyro.conf.arg(
            name=option.flag if is_short else None,
            prefix_name=not is_short,
            help_behavior_hint=f"(default: {option.kind.show(option.default)})",
        )
        yield StructFieldSpec(option.name, Annotated[object, words, display], option.default, option.read_help)  # type: ignore[arg-type]  # an Annotated is no class


def _spell(options: Options, words: Sequence[str], spellings: dict[str, str]) -> Iterator[str]:
    """Yield the words with every option by its flag, and note its own spelling by its path."""
    flag = None
    for word in words:
        if looks_like_flag(word):
            spelling, equals, value = word.partition("=")
            if not spelling.startswith("--") or spelling == "--":
                raise InvalidCommandLine(_refuse_dash(word, flag))
            option = options.find(spelling[2:])
            flag, spellings[option.path] = f"--{option.flag}", spelling
            yield flag + equals + value
        elif flag is None:
            raise InvalidCommandLine(
                f"{word!r} belongs to no option; an option begins with two dashes, and one YAML file may stand "
                "right after the command"
            )
        else:
            yield word


def _refuse_dash(word: str, flag: str | None) -> str:
    as_value = f"; as a value it is written {flag}={word}" if flag else ""
    return f"{word!r} is no option; an option begins with two dashes and a letter{as_value}"


def looks_like_flag(word: str) -> bool:
    """Say whether a word begins an option: dashes and a letter, if it is no number; the bare -- passes for one."""
    return word == "--" or (word.startswith("-") and word.lstrip("-")[:1].isalpha() and not _NEGATIVE.match(word))
