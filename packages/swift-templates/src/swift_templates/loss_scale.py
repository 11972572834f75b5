"""Loss scale: which answers are trained, and which parts of them weigh more than the rest.

An option such as 'last_round+react' is a rule for whole answers, and any number of scales for what is inside of them.
A scale sees an answer as the model writes it and names spans of its text; `branches` brings them onto the tokens.

Source: SWIFT: A Scalable lightWeight Infrastructure for Fine-Tuning, arXiv 2408.05517, appendix B.
"""

from __future__ import annotations

import importlib
import json
import math
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

from .errors import InvalidLossScale, UnknownName
from .registry import Registry, nearest

RULES = ("default", "last_round", "all")
"""Which answers are trained: each one; the last; everything, prompts too, as in pre-training."""
LARGEST = 1e6
"""No part weighs more."""
CONTENT, LABEL = 3.0, 2.0
"""Weights of the paper's table: of what decides about a call, and of the word that hands over to the tool."""


class Span(NamedTuple):
    """A stretch of an answer's text, in characters, and what it weighs."""

    start: int
    end: int
    weight: float


class LossScale(ABC):
    """Weighs the parts of answers."""

    @abstractmethod
    def weigh(self, question: str, answer: str) -> Sequence[Span]:
        """Return spans of the answer whose weight is not 1; of two that overlap, the later one counts.

        Weights are from 0 to 1e6, and 0 <= start <= end <= len(answer); anything else is refused.

        Args:
            question: the last message of the user.
            answer: all that the model writes, reasoning and calls in their own notation, without the stop token.
        """


@dataclass(frozen=True, kw_only=True)
class Keywords(LossScale):
    """A scale by words that begin lines, by patterns, and by what was asked.

    Attributes:
        keywords: word at the beginning of a line, to its own weight and that of what follows, up to the next keyword.
        patterns: regular expression ('.' is any character), to the weight of its first group's match, or of all of it.
        questions: a part of the question, to the weight of the whole answer.
    """

    keywords: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    patterns: Mapping[str, float] = field(default_factory=dict)
    questions: Mapping[str, float] = field(default_factory=dict)

    def weigh(self, question: str, answer: str) -> list[Span]:
        """Return the spans; patterns count more than keywords, and those more than questions."""
        spans = [Span(0, len(answer), weight) for part, weight in self.questions.items() if part in question][:1]
        found = list(self._keyword.finditer(answer)) if self.keywords else []
        for index, match in enumerate(found):
            own, content = self.keywords[match[1]]
            end = found[index + 1].start() if index + 1 < len(found) else len(answer)
            spans += [Span(match.start(1), match.end(1), own), Span(match.end(1), end, content)]
        for pattern, weight in self._patterns:
            group = 1 if pattern.groups else 0
            # An optional group may have matched nothing at all.
            found = [match for match in pattern.finditer(answer) if match[group] is not None]
            spans += [Span(*match.span(group), weight) for match in found]
        return spans

    @cached_property
    def _keyword(self) -> re.Pattern[str]:
        longest_first = sorted(self.keywords, key=len, reverse=True)
        return re.compile(rf"^[ \t]*({'|'.join(map(re.escape, longest_first))})", re.MULTILINE)

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], float]]:
        return [(re.compile(each, re.DOTALL), weight) for each, weight in self.patterns.items()]


LOSS_SCALES: Registry[LossScale] = Registry(kind="loss scale", package="swift_templates.loss_scales", base=LossScale)


@dataclass(frozen=True)
class Weighing:
    """What an option such as 'last_round+react' means."""

    rule: str
    scales: tuple[LossScale, ...] = ()

    def weights_of(self, question: str, answer: str) -> list[float] | None:
        """Return the weight of each character of an answer, or None where all are 1; several scales multiply.

        Raises:
            InvalidLossScale: a scale fails, or names spans or weights that there cannot be.
        """
        found = [spans for scale in self.scales if (spans := _weigh(scale, question, answer))]
        if not found:
            return None
        weights = [1.0] * len(answer)
        for spans in found:
            own = [1.0] * len(answer)
            for start, end, weight in spans:
                own[start:end] = [weight] * (end - start)
            weights = [left * right for left, right in zip(weights, own, strict=True)]
        return weights


def _weigh(scale: LossScale, question: str, answer: str) -> list[Span]:
    """Return the spans of a scale, which may be a user's, and are checked."""
    name = type(scale).__name__
    try:
        spans = [
            Span(operator.index(start), operator.index(end), float(weight))
            for start, end, weight in scale.weigh(question, answer)
        ]
    except Exception as error:  # whatever a user's class raises
        raise InvalidLossScale(
            f"loss_scale {name!r} fails: {type(error).__name__}: {error}; expected `weigh` to return spans "
            "(start, end, weight) of any answer; correct the class"
        ) from error
    for span in spans:
        if not 0 <= span.start <= span.end <= len(answer):
            raise InvalidLossScale(
                f"loss_scale {name!r} names characters {span.start} to {span.end} of an answer of {len(answer)}; "
                "expected 0 <= start <= end <= length; correct the class"
            )
        if not _is_weight(span.weight):
            raise InvalidLossScale(
                f"loss_scale {name!r} gives a part the weight {span.weight!r}; expected one from 0 to {LARGEST:g}; "
                "correct the class"
            )
    return spans


def _is_weight(value: float) -> bool:
    """Whether a part of an answer may weigh so much."""
    return math.isfinite(value) and 0 <= value <= LARGEST


def read_loss_scale(text: str) -> Weighing:
    """Read the option.

    Args:
        text: a rule, scales, or both, joined by '+'. A scale is a registered name, a .json file that holds the fields
            of `Keywords`, or a class of the user's as 'package.module:Class'.

    Raises:
        UnknownName: there is no such rule or scale; the message holds the nearest names.
        InvalidLossScale: a file or class is not what it should be, or there are two rules.
    """
    rule = ""
    scales = []
    for part in text.split("+"):
        if part in RULES:
            if rule:
                raise InvalidLossScale(f"loss_scale {text!r} holds the rules {rule!r} and {part!r}; expected one")
            rule = part
        else:
            scales.append(_load_scale(part))
    return Weighing(rule or RULES[0], tuple(scales))


def _load_scale(name: str) -> LossScale:
    if name.endswith(".json"):
        return _read_file(Path(name).expanduser())
    if ":" in name:
        return _load_own(name)
    known = LOSS_SCALES.names()
    if name.replace("-", "_").lower() not in known:
        raise UnknownName(f"loss_scale {name!r} is unknown; {nearest(name, [*RULES, *known])}")
    loaded = LOSS_SCALES.load(name)
    return loaded() if isinstance(loaded, type) else loaded


def _load_own(name: str) -> LossScale:
    module, _, attribute = name.partition(":")
    try:
        own = getattr(importlib.import_module(module), attribute)
        scale = own() if isinstance(own, type) else own
    except Exception as error:  # whatever a user's module raises
        raise InvalidLossScale(f"loss_scale {name!r} cannot be imported: {error}; expected 'module:Class'") from error
    if not isinstance(scale, LossScale):
        raise InvalidLossScale(f"loss_scale {name!r} is {own!r:.80}; expected a subclass of LossScale")
    return scale


def _read_file(path: Path) -> Keywords:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidLossScale(f"loss_scale {str(path)!r} cannot be read: {error}") from error
    fields = ("keywords", "patterns", "questions")
    if not isinstance(content, dict) or not set(content) <= set(fields):
        raise InvalidLossScale(f"loss_scale {str(path)!r} is {content!r:.80}; expected an object with {fields}")
    parts: dict[str, dict[str, object]] = {}
    for name in fields:
        part = content.get(name, {})
        if not isinstance(part, dict):
            raise InvalidLossScale(f"{name} in {str(path)!r} is {part!r:.80}; expected an object")
        parts[name] = {key: _read_weights(value, f"{name}[{key!r}]", path) for key, value in part.items()}
    for name, needed in (("keywords", list), ("patterns", float), ("questions", float)):
        for key, value in parts[name].items():
            if not isinstance(value, needed):
                wanted = "[own weight, weight of what follows]" if needed is list else "a weight"
                raise InvalidLossScale(f"{name}[{key!r}] in {str(path)!r} is {value!r}; expected {wanted}")
    try:
        for pattern in parts["patterns"]:
            re.compile(pattern)
    except re.error as error:
        raise InvalidLossScale(f"a pattern in {str(path)!r} is no regular expression: {error}") from error
    pairs = {key: tuple(cast("list[float]", value)) for key, value in parts["keywords"].items()}
    return Keywords(
        keywords=cast("dict[str, tuple[float, float]]", pairs),
        patterns=cast("dict[str, float]", parts["patterns"]),
        questions=cast("dict[str, float]", parts["questions"]),
    )


def _read_weights(value: object, what: str, path: Path) -> float | list[float]:
    numbers: Iterable[object] = value if isinstance(value, list) and len(value) == 2 else [value]
    weights = [_read_weight(each, what, path) for each in numbers]
    return weights if isinstance(value, list) else weights[0]


def _read_weight(value: object, what: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_weight(value):
        raise InvalidLossScale(f"{what} in {str(path)!r} is {value!r}; expected weights from 0 to {LARGEST:g}")
    return float(value)
