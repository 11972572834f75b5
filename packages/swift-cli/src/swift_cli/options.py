"""The options of a command, derived from its argument class: what each is called and what it can hold.

An argument class is a dataclass of groups, and a group is a dataclass of fields. Each field is one option with one
path, such as `train.learning_rate`, and several spellings, all found in one table that the command line and YAML
share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

from swift_templates.registry import Registry as TemplatesRegistry
from swift_tuners.args import TunerArgs
from swift_tuners.registry import Registry as TunersRegistry

from .aliases import ALIASES, VALUE_ALIASES
from .errors import UnknownOption, UnsupportedOption
from .field_helps import read_field_helps
from .values import Kind, to_kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Registry = TunersRegistry[Any] | TemplatesRegistry[Any]

REGISTRIES: Mapping[type, Registry] = {
    TunerArgs: TunersRegistry(kind="tuner", package="swift_tuners.tuners", base=TunerArgs),
}
"""A group annotated with one of these classes is chosen by name among the registry's subclasses."""

CHOICE = "name"
"""Name of the option that chooses a group's class; its short spelling is the group's own name."""


@dataclass(kw_only=True)
class RunOptions:
    """How the command line itself is treated; no part of what a command gets."""

    config: str | None = None
    """YAML file of options, such as the args.yaml of a run; it may also stand right after the command."""
    dry_run: bool = False
    """Print all options as YAML, as they would be used, and stop."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a command.

    Attributes:
        group: name of its group; empty for the options of the command line itself.
        name: name of its field.
        flag: its shortest unique spelling, used in help and messages: `seed`, or `data.seed` if others have a `seed`.
        kind: what it can hold.
        default: what it holds if the user says nothing.
        read_help: returns what it is for.
    """

    group: str
    name: str
    flag: str
    kind: Kind
    default: object
    read_help: Callable[[], str] = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """Its full spelling, `group.field`."""
        return f"{self.group}.{self.name}" if self.group else self.name

    def read(self, words: Sequence[str]) -> object:
        """Return the value that these words spell, by one of its own spellings or an alias.

        Raises:
            InvalidValue: they spell none; the message goes on after the option's name.
        """
        return self.kind.read([self._rename(word) for word in words])

    def read_word(self, word: str) -> object:
        """Return the value that one word spells, or one item of a list or mapping. Raises as `read` does."""
        return self.kind.read_word(self._rename(word))

    def _rename(self, word: str) -> str:
        return VALUE_ALIASES.get(self.name, {}).get(word, word)


class Options:
    """The options of one argument class, with the groups chosen by name filled in.

    Args:
        args_class: a dataclass of groups that can be built without arguments.
        chosen: for a group chosen by name, the name; by default the one that the argument class has.
        registries: where the names are found, by the class that annotates the group.

    Attributes:
        args_class: as given.
        groups: each group's name and defaults.
        chosen: the name of each group that is chosen by name.

    Raises:
        UnsupportedOption: the class is not of this shape.
        SwiftTunersError, SwiftTemplatesError: a chosen name is unknown or cannot be imported.
    """

    def __init__(
        self,
        args_class: type[DataclassInstance],
        *,
        chosen: Mapping[str, str] | None = None,
        registries: Mapping[type, Registry] = REGISTRIES,
    ) -> None:
        self.args_class = args_class
        self.registries = find_registries(args_class, registries)
        defaults = args_class()
        self.groups: dict[str, DataclassInstance] = {
            each.name: getattr(defaults, each.name) for each in fields(args_class)
        }
        self.chosen: dict[str, str] = {}
        for group, registry in self.registries.items():
            if chosen and group in chosen:
                self.groups[group] = registry.load_class(chosen[group])()
            self.chosen[group] = find_name(registry, type(self.groups[group]))
        for group, instance in self.groups.items():
            if not is_dataclass(instance):
                raise UnsupportedOption(
                    f"{args_class.__name__}.{group} is {instance!r}; expected a dataclass, the group of its options"
                )
        self._options = list(self._build())
        self._by_spelling = self._spell()

    def __iter__(self) -> Iterator[Option]:
        return iter(self._options)

    def find(self, spelling: str, *, dashes: str = "--") -> Option:
        """Return the option that is called this, with hyphens or underscores.

        Args:
            spelling: without dashes before it.
            dashes: what stands before an option's name in messages.

        Raises:
            UnknownOption: there is none, or there are several; the message says what is near.
        """
        wanted = spelling.replace("-", "_")
        found = self._by_spelling.get(wanted, [])
        if len(found) == 1:
            return found[0]
        if found:
            paths = " or ".join(f"{dashes}{option.path}" for option in found)
            raise UnknownOption(f"{dashes}{spelling} could be {paths}; say which")
        if wanted in self.groups:
            example = next(option.path for option in self if option.group == wanted)
            raise UnknownOption(f"{dashes}{spelling} is a group of options; name one, such as {dashes}{example}")
        for group, name in self._choices_with(wanted):
            raise UnknownOption(
                f"{dashes}{spelling} is an option of {group} {name!r}, but the {group} is {self.chosen[group]!r}; "
                f"choose {group} {name!r} or leave {dashes}{spelling} out"
            )
        near = self._nearest(wanted)
        hint = f"did you mean {' or '.join(dashes + each for each in near)}?" if near else "--help shows what is known"
        raise UnknownOption(f"{dashes}{spelling} is unknown; {hint}")

    def _build(self) -> Iterator[Option]:
        declared: dict[str, DataclassInstance] = {"": RunOptions(), **self.groups}
        uses = dict.fromkeys(self.registries, 1)
        for instance in declared.values():
            for each in fields(instance):
                uses[each.name] = uses.get(each.name, 0) + 1
        for group, instance in declared.items():
            if group in self.registries:
                yield self._build_choice(group)
            annotations = get_type_hints(type(instance))
            for each in fields(instance):
                yield Option(
                    group=group,
                    name=each.name,
                    flag=f"{group}.{each.name}" if group and uses[each.name] > 1 else each.name,
                    kind=to_kind(annotations[each.name]),
                    default=getattr(instance, each.name),
                    read_help=partial(_read_help, type(instance), each.name),
                )

    def _build_choice(self, group: str) -> Option:
        names, chosen = ", ".join(self.registries[group].names()), self.chosen[group]
        return Option(
            group=group,
            name=CHOICE,
            flag=group,
            kind=Kind(scalar=str),
            default=chosen,
            read_help=lambda: (
                f"Which {group}: {names}. Each has options of its own, which --{group} NAME --help shows; "
                f"those of {chosen} may also be spelled --{chosen}_OPTION."
            ),
        )

    def _spell(self) -> dict[str, list[Option]]:
        table: dict[str, list[Option]] = {}
        for option in self:
            spellings = {option.path, option.flag if option.name == CHOICE else option.name}
            if option.group in self.chosen and option.name != CHOICE:
                spellings.add(f"{self.chosen[option.group]}_{option.name}")
            for spelling in spellings:
                table.setdefault(spelling, []).append(option)
        # A flag is its option's alone, also where a field of another group has the same name.
        table |= {option.flag: [option] for option in self}
        for alias, spelling in ALIASES.items():
            if alias not in table and len(table.get(spelling, [])) == 1:
                option = table[spelling][0]
                table |= {alias: [option], f"{option.group}.{alias}": [option]}
        return table

    def _choices_with(self, spelling: str) -> Iterator[tuple[str, str]]:
        for group, registry in self.registries.items():
            for name in registry.names():
                own = {each.name for each in fields(registry.load_class(name))}
                if name != self.chosen[group] and spelling.removeprefix(f"{group}.").removeprefix(f"{name}_") in own:
                    yield group, name

    def _nearest(self, spelling: str) -> list[str]:
        near: dict[str, str] = {}
        for each in get_close_matches(spelling, self._by_spelling, n=3, cutoff=0.7):
            # Several spellings of one option are one suggestion: the nearest.
            near.setdefault(self._by_spelling[each][0].path, each)
        return list(near.values())


def find_registries(
    args_class: type[DataclassInstance], registries: Mapping[type, Registry] = REGISTRIES
) -> dict[str, Registry]:
    """Return the groups of an argument class that are chosen by name, and where the names are found.

    Raises:
        UnsupportedOption: it is no dataclass.
    """
    if not is_dataclass(args_class):
        raise UnsupportedOption(
            f"{args_class!r} is no argument class; expected a dataclass of groups, each a dataclass"
        )
    annotations = get_type_hints(args_class)
    return {
        each.name: registries[annotations[each.name]]
        for each in fields(args_class)
        if annotations[each.name] in registries
    }


def find_name(registry: Registry, component: type) -> str:
    """Return the name under which a registry has this class.

    Raises:
        UnsupportedOption: it has it under none.
    """
    # The file's name, tried first, spares importing the others.
    own = component.__module__.rpartition(".")[2]
    for name in sorted(registry.names(), key=lambda each: each != own):
        if registry.load_class(name) is component:
            return name
    raise UnsupportedOption(
        f"{component!r} is no registered {registry.kind}; expected one of {', '.join(registry.names())}"
    )


def _read_help(owner: type, name: str) -> str:
    return read_field_helps(owner).get(name, "")
