"""Components found by file name and by entry point, imported on first use.

A registry stands for one folder of modules: each public file there *is* a component, named as the file. Other
distributions add theirs under an entry-point group. Nothing is listed by hand: adding a component edits no other file.

The same file stands in swift_tuners and swift_templates, which are strangers to each other; a test holds the two equal.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from importlib import metadata
from types import ModuleType
from typing import Generic, TypeVar

from .errors import BrokenComponent, DuplicateName, MissingDependency, UnknownName

Component = TypeVar("Component")


class Registry(Generic[Component]):
    """The components of one kind.

    A component module defines exactly one public subclass of `base`, or exactly one public instance of it.

    Args:
        kind: what a component is called in messages, such as 'tuner'.
        package: the package whose files are the components, such as 'swift_tuners.tuners'.
        base: the class a component derives from or is an instance of.
    """

    def __init__(self, *, kind: str, package: str, base: type[Component]) -> None:
        self.kind = kind
        self.package = package
        self.base = base

    @property
    def entry_point_group(self) -> str:
        """The group under which other distributions register components: the package's own dotted name."""
        return self.package

    def names(self) -> list[str]:
        """Return every registered name, sorted, without importing a component.

        Raises:
            DuplicateName: two distributions, or a file and a distribution, claim one name.
        """
        folder = importlib.import_module(self.package)
        sources = {
            module.name: f"{self.package}.{module.name}"
            for module in pkgutil.iter_modules(folder.__path__)
            if not module.name.startswith("_")
        }
        for name, point in self._entry_points():
            if name in sources and sources[name] != point.value:
                raise DuplicateName(
                    f"{self.kind} {name!r} is claimed by {sources[name]!r} and by {point.value!r}; "
                    "rename one, or uninstall the distribution that brings it"
                )
            sources[name] = point.value
        return sorted(sources)

    def load(self, name: str) -> type[Component] | Component:
        """Import the component of this name; hyphens count as underscores.

        Raises:
            UnknownName: nothing is registered under this name; the message holds the nearest names.
            DuplicateName: see `names`.
            MissingDependency: the component's module imports a package that is not installed.
            BrokenComponent: the module does not define exactly one component.
        """
        wanted, known = _normalize(name), self.names()
        if wanted not in known:
            raise UnknownName(f"{self.kind} {name!r} is unknown; {nearest(name, known)}")
        try:
            for candidate, point in self._entry_points():
                if candidate == wanted:
                    return self._check(point.load(), origin=point.value)
            return self._find_in(importlib.import_module(f"{self.package}.{wanted}"))
        except ModuleNotFoundError as error:
            raise self._missing(wanted, error) from error

    def load_class(self, name: str) -> type[Component]:
        """Import the component of this name, which must be a class. Raises as `load` does."""
        component = self.load(name)
        if not isinstance(component, type):
            raise BrokenComponent(f"{self.kind} {name!r} is {component!r}; expected a subclass of {self.base.__name__}")
        return component

    def _entry_points(self) -> Iterable[tuple[str, metadata.EntryPoint]]:
        for point in _installed_entry_points(tuple(sys.path)).select(group=self.entry_point_group):
            yield _normalize(point.name), point

    def _find_in(self, module: ModuleType) -> type[Component] | Component:
        found = [
            value
            for key, value in vars(module).items()
            if not key.startswith("_") and self._is_component(value) and _is_defined_in(value, module)
        ]
        if len(found) != 1:
            raise BrokenComponent(
                f"{module.__name__} defines {len(found)} public components; "
                f"a {self.kind} file defines exactly one {self.base.__name__}"
            )
        component: type[Component] | Component = found[0]
        return component

    def _check(self, component: object, *, origin: str) -> type[Component] | Component:
        if isinstance(component, ModuleType):
            return self._find_in(component)
        if not self._is_component(component):
            raise BrokenComponent(f"{origin!r} is {component!r}; expected a {self.base.__name__} or a subclass of it")
        return component  # type: ignore[return-value]  # narrowed by _is_component, which mypy cannot follow

    def _is_component(self, value: object) -> bool:
        if isinstance(value, type):
            return issubclass(value, self.base) and value is not self.base and not inspect.isabstract(value)
        return isinstance(value, self.base)

    def _missing(self, name: str, error: ModuleNotFoundError) -> Exception:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == self.package.partition(".")[0]:
            return error
        distribution = self.package.partition(".")[0].replace("_", "-")
        package = f"'{distribution}[{name}]'" if name in _extras(distribution) else missing
        return MissingDependency(f"{missing} is needed by {self.kind} {name!r}; pip install {package}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names come nearest to a wrong one, or list them all."""
    names = sorted(known)
    close = difflib.get_close_matches(_normalize(name), names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(each) for each in close)}?"
    return f"known are: {', '.join(names) or 'none'}"


@functools.cache
def _installed_entry_points(path: tuple[str, ...]) -> metadata.EntryPoints:
    # Reading them takes 20 ms where a hundred distributions are installed.
    return metadata.entry_points()  # type: ignore[return-value]  # the type of Python 3.11; it selects alike


def _extras(distribution: str) -> list[str]:
    try:
        return metadata.metadata(distribution).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        # Run from source, not installed.
        return []


def _normalize(name: str) -> str:
    return name.replace("-", "_").lower()


def _is_defined_in(value: object, module: ModuleType) -> bool:
    # An instance has no module of its own: whatever a component file holds of the base's instances was made there.
    return not isinstance(value, type) or value.__module__ == module.__name__
