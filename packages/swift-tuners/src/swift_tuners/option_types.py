"""Whether the fields of an options class hold what their annotations say; dataclasses themselves accept anything."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def find_misfit(options: type, values: Mapping[str, object]) -> str | None:
    """Return what is wrong with the first value that its field does not take, for a message; None if all fit.

    Args:
        options: a dataclass.
        values: by the names of its fields; further names are passed over.
    """
    try:
        hints = get_type_hints(options)
    except NameError:
        # A class of somebody else's may name types that are imported for type checkers only.
        return None
    for each in fields(options):
        if each.name in values and not fits(values[each.name], hints[each.name]):
            return f"{each.name} is {values[each.name]!r:.80}; expected {_describe(hints[each.name])}"
    return None


def fits(value: object, hint: Any) -> bool:  # noqa: ANN401  # any annotation of a field
    """Say whether a value is what an annotation says; whole numbers are floats too, NaN and infinities are none."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is Literal:
        # True == 1, and unhashable values are no words.
        return any(type(value) is type(part) and value == part for part in parts)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is not None:
        return _fits_container(value, origin, parts)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(hint, type):
        # Type variables and the like, which no option has.
        return True
    return isinstance(value, hint) and (hint is not int or not isinstance(value, bool))


def _fits_container(value: object, origin: Any, parts: tuple[Any, ...]) -> bool:  # noqa: ANN401  # a class, as a rule
    if isinstance(value, dict) and len(parts) == 2:
        return issubclass(dict, origin) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if origin is tuple:
        # JSON has lists only.
        return isinstance(value, list | tuple)
    if not isinstance(origin, type) or not isinstance(value, origin):
        return not isinstance(origin, type)
    return not isinstance(value, list) or all(fits(each, parts[0]) for each in value)


def _describe(hint: Any) -> str:  # noqa: ANN401  # as above
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is list:
        return f"a list, each item {_describe(parts[0])}"
    words = {int: "a whole number", float: "a finite number", str: "a text", bool: "True or False", type(None): "None"}
    return words.get(hint, getattr(hint, "__name__", str(hint)) if origin is None else str(hint))
