"""What an option can hold, read from the words that a user wrote.

The same reading serves the command line and YAML, so a value means the same in both: `1e-4` is a number, `Yes` is
true, and `none` is nothing where nothing is allowed.
"""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin

from .errors import InvalidValue, UnsupportedOption

TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})
NOTHING = frozenset({"none", "null"})

_SCALARS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", object: "JSON"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What one option can hold.

    Attributes:
        scalar: type of the value, or of each item; `object` is any JSON value (in mappings only).
        choices: the only values allowed; empty means any.
        shape: one value, a list of them, or a mapping from texts to them.
        optional: whether None is allowed.
    """

    scalar: type
    choices: tuple[object, ...] = ()
    shape: Literal["one", "list", "mapping"] = "one"
    optional: bool = False

    @property
    def metavar(self) -> str:
        """What stands for the value in a help text."""
        if self.shape == "mapping":
            name = "JSON"
        elif self.choices:
            name = "{" + ",".join(map(str, self.choices)) + "}"
        else:
            name = {str: "TEXT", int: "INT", float: "FLOAT", bool: "{true,false}"}[self.scalar]
        many = f"[{name} ...]" if self.shape == "list" else name
        return f"{many}|none" if self.optional else many

    @property
    def expected(self) -> str:
        """What stands for the value in an error message."""
        name = f"one of {', '.join(map(str, self.choices))}" if self.choices else _SCALARS[self.scalar]
        if self.shape == "list":
            name = f"any number of values, each {name}"
        elif self.shape == "mapping":
            name = f"a JSON object, each value {name}"
        return f"{name}, or none" if self.optional else name

    def read(self, words: Sequence[str]) -> object:
        """Return the value that these words of a command line spell.

        Raises:
            InvalidValue: they spell none; the message goes on after the option's name.
        """
        if self.is_nothing(words):
            return [] if self.shape == "list" and not self.optional else None
        if self.shape == "list":
            return [self.read_word(word) for word in words]
        if self.scalar is bool and self.shape == "one" and not words:
            return True
        if not words:
            raise InvalidValue(f"needs a value; expected {self.expected}")
        if len(words) > 1:
            raise InvalidValue(
                f"takes one value, not {len(words)}: {' '.join(map(repr, words))}; quote a value with blanks"
            )
        return self._read_json(words[0]) if self.shape == "mapping" else self.read_word(words[0])

    def is_nothing(self, words: Sequence[str]) -> bool:
        """Say whether these words stand for None, or for an empty list."""
        allowed = self.optional or self.shape == "list"
        return allowed and len(words) == 1 and words[0].lower() in NOTHING and words[0] not in self.choices

    def read_word(self, word: str) -> object:
        """Return the scalar that one word spells. Raises as `read` does."""
        if self.choices:
            return self._read_choice(word)
        if self.scalar is bool and word.lower() in TRUE | FALSE:
            return word.lower() in TRUE
        if self.scalar is str:
            return word
        if self.scalar in (int, float):
            try:
                number: object = self.scalar(word)
            except ValueError:
                raise self.refuse(word) from None
            return number
        raise self.refuse(word)

    def refuse(self, given: object) -> InvalidValue:
        """Return the error for a value that this option cannot hold."""
        return InvalidValue(f"is {given!r}; expected {self.expected}")

    def show(self, value: object) -> str:
        """Return a value as a user would write it, for a help text."""
        if value is None:
            return "none"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return " ".join(map(str, value)) or "none"
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False) if value else "none"
        return str(value) if value != "" else "''"

    def normalize(self, value: object) -> object:
        """Return an equal value as `read` would give it: where Python lets an int pass for a float, a float."""
        if self.scalar is float and isinstance(value, int):
            return float(value)
        if isinstance(value, list):
            return [self.normalize(item) for item in value]
        return value

    def _read_choice(self, word: str) -> object:
        for choice in self.choices:
            if str(choice) == word:
                return choice
        near = get_close_matches(word, list(map(str, self.choices)), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidValue(f"is {word!r}; expected {self.expected}{hint}")

    def _read_json(self, word: str) -> object:
        try:
            value = json.loads(word)
        except json.JSONDecodeError as error:
            raise InvalidValue(f"is {word!r}; expected {self.expected} ({error})") from None
        if not isinstance(value, dict) or not all(self._holds(item) for item in value.values()):
            raise self.refuse(word)
        return value

    def _holds(self, value: object) -> bool:
        if isinstance(value, bool):
            return self.scalar in (bool, object)
        return isinstance(value, (int, float) if self.scalar is float else self.scalar)


def to_kind(annotation: object) -> Kind:
    """Return what a field of this type can hold.

    Raises:
        UnsupportedOption: it is neither str, int, float, bool or Literal, nor a list or dict[str, ...] of them, nor one
            of these or None.
    """
    origin, parameters = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        others = [each for each in parameters if each is not type(None)]
        if len(others) == 1 and len(parameters) == 2:
            return replace(to_kind(others[0]), optional=True)
    elif origin is Literal:
        return Kind(scalar=type(parameters[0]), choices=parameters)
    elif origin is list:
        item = to_kind(parameters[0])
        if item.shape == "one" and not item.optional:
            return replace(item, shape="list")
    elif origin is dict and parameters[0] is str:
        if parameters[1] in (object, Any):
            return Kind(scalar=object, shape="mapping")
        item = to_kind(parameters[1])
        if item.shape == "one" and not item.optional and not item.choices:
            return replace(item, shape="mapping")
    elif isinstance(annotation, type) and annotation in (str, int, float, bool):
        return Kind(scalar=annotation)
    raise UnsupportedOption(
        f"a field of type {annotation} cannot be an option; expected str, int, float, bool or Literal, a list or "
        "dict[str, ...] of them, or one of these or None"
    )
