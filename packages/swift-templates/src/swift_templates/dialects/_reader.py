"""An answer read from left to right while it is still coming: what every dialect's `read` is written with.

Its methods are generators: they yield events, and None where more text is needed to decide. Nothing is decided that
a later piece could change, so the events mean the same however the text was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NoReturn

from ..messages import JSON, ToolCall
from ._events import ArgumentsDelta, Broken, CallFinished, CallStarted, Steps, TextDelta

_STRUCTURE = re.compile(r'[{}\[\]"]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[\s,\]}]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_DEEPEST = 200
_SPACE = re.compile(r"\s*")


class Reader:
    """The text so far, and how far it was read.

    Args:
        ids: the call at index 2 gets this and '2' as its id, unless the text gives it one.
    """

    def __init__(self, ids: str) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        self.num_calls = 0
        self.started: CallStarted | None = None
        self.mark = 0
        """Where what is being read as a call begins, with what separates it from the text before."""
        self._after_call = False
        self._ids = ids
        self._forgotten = 0

    def text_until(self, markers: re.Pattern[str], spellings: Sequence[str]) -> Steps[str]:
        """Give text away until a marker; step over that.

        White space between a call and the next, or the end, is nobody's text.

        Args:
            markers: matches any of the spellings.
            spellings: the markers, to know what may be the beginning of one.

        Returns:
            The marker, empty at the end of the answer.
        """
        start = self.at
        while True:
            if self._after_call:
                start = _end_of(_SPACE, self.text, start)
                if start == len(self.text) and not self.ended:
                    yield None
                    continue
                found = markers.match(self.text, start)
                if start < len(self.text) and found is None:
                    if not self.ended and any(each.startswith(self.text[start:]) for each in spellings):
                        yield None
                        continue
                    self._after_call = False
                elif found is None:
                    self.at = start
                    return ""
                else:
                    self._marked(self.at, found.end())
                    return found[0]
            held = len(self.text) if self.ended else len(self.text) - _overlap(self.text, self.at, spellings)
            found = markers.search(self.text, self.at)
            if found is not None and found.start() <= held:
                yield from self._give(found.start())
                self._marked(found.start(), found.end())
                return found[0]
            yield from self._give(held)
            if self.ended:
                return ""
            yield None

    def rest_as_text(self, start: int) -> Steps[None]:
        """Give everything from a place on away as text."""
        self.at = start
        while True:
            yield from self._give(len(self.text))
            if self.ended:
                return
            yield None

    def _give(self, end: int) -> Steps[None]:
        if end > self.at:
            yield TextDelta(self.text[self.at : end])
            self.at = end
        self._forget(self.at)

    def _marked(self, start: int, end: int) -> None:
        self.mark, self.at = start, end
        self._forget(start)

    def _forget(self, before: int) -> None:
        # Now and then only: cutting costs as much as what stays is long.
        if before > 4096 and before > len(self.text) // 2:
            self.text = self.text[before:]
            self._forgotten += before
            self.at -= before
            self.mark -= before

    def begins_with(self, spelling: str) -> Steps[bool]:
        """Say whether the text goes on with this, and step over it if so."""
        while not self.text.startswith(spelling, self.at):
            if self.ended or not spelling.startswith(self.text[self.at :]):
                return False
            yield None
        self.at += len(spelling)
        return True

    def expect(self, *spellings: str) -> Steps[str]:
        """Step over one of these; the longer ones come first."""
        for spelling in spellings:
            if (yield from self.begins_with(spelling)):
                return spelling
        self.stop(f"expected {' or '.join(map(repr, spellings))}")

    def skip_space(self) -> Steps[bool]:
        """Step over white space; say whether there is text after it."""
        while True:
            self.at = _end_of(_SPACE, self.text, self.at)
            if self.at < len(self.text):
                return True
            if self.ended:
                return False
            yield None

    def until(self, *spellings: str) -> Steps[tuple[str, str]]:
        """Step over one of these; return what stands before it, and it."""
        pattern = re.compile("|".join(map(re.escape, spellings)))
        begun, longest = self.at, max(map(len, spellings))
        search_from = begun
        while (found := pattern.search(self.text, search_from)) is None:
            if self.ended:
                self.stop(f"expected {' or '.join(map(repr, spellings))}", ends=True)
            search_from = max(begun, len(self.text) - longest + 1)
            yield None
        self.at = found.end()
        return self.text[begun : found.start()], found[0]

    def json_text(self, *, index: int | None = None) -> Steps[str]:
        """Step over one JSON value; return its text.

        Args:
            index: the call whose arguments it is: its text is given away as it comes.
        """
        if not (yield from self.skip_space()):
            self.stop("expected JSON")
        begun = self.at
        sent = begun
        depth, position, in_string = 0, begun, False
        if self.text[begun] not in '{["':
            while (found := _SCALAR_END.search(self.text, position)) is None and not self.ended:
                position = len(self.text)
                yield None
            self.at = found.start() if found else len(self.text)
            return self.text[begun : self.at]
        while True:
            found = (_IN_STRING if in_string else _STRUCTURE).search(self.text, position)
            if found is None or (found[0] == "\\" and found.end() == len(self.text)):
                position = len(self.text) if found is None else found.start()
                if index is not None and position > sent:
                    yield ArgumentsDelta(index, self.text[sent:position])
                    sent = position
                if self.ended:
                    self.stop("expected the rest of the JSON", ends=True)
                yield None
                continue
            position = found.end()
            match found[0]:
                case "\\":
                    position += 1
                case '"':
                    in_string = not in_string
                case "{" | "[":
                    depth += 1
                case _:
                    depth -= 1
            if depth <= 0 and not in_string:
                break
        if index is not None:
            yield ArgumentsDelta(index, self.text[sent:position])
        self.at = position
        return self.text[begun:position]

    def start_call(self, name: str, call_id: str | None = None) -> Steps[int]:
        """Say that a call begins; return its index."""
        if not name.strip() or "\n" in name:
            raise Broken(f"a call has {name!r:.80} as its name; expected the name of a function")
        self.started = CallStarted(self.num_calls, call_id or f"{self._ids}{self.num_calls}", name)
        yield self.started
        return self.num_calls

    def finish_call(self, arguments: JSON) -> Steps[None]:
        """Say that the call is whole."""
        started = self.started
        assert started is not None
        if not isinstance(arguments, dict):
            raise Broken(f"the arguments of {started.name!r} are {arguments!r:.80}; expected a JSON object")
        yield CallFinished(started.index, ToolCall(started.name, arguments, started.id))
        self.started = None
        self.num_calls += 1
        self.mark = self.at
        self._after_call = True

    def arguments(self, index: int) -> Steps[JSON]:
        """Read the arguments of the call that has started: a JSON object, or a text with one inside; null is empty."""
        if not (yield from self.skip_space()):
            self.stop("expected arguments")
        if self.text[self.at] == "{":
            return load_json((yield from self.json_text(index=index)))
        value = load_json((yield from self.json_text()))
        if isinstance(value, str):
            value = load_json(value)
        value = {} if value is None else value
        yield ArgumentsDelta(index, json.dumps(value, ensure_ascii=False))
        return value

    def call_object(
        self,
        *,
        name_keys: Sequence[str],
        argument_keys: Sequence[str],
        id_keys: Sequence[str] = (),
        id_last: bool = False,
    ) -> Steps[JSON]:
        """Read a JSON object that has name and arguments, and start the call; return the arguments.

        Args:
            name_keys: the keys that the name may have.
            argument_keys: the keys that the arguments may have.
            id_keys: the keys that an id may have.
            id_last: the id may come last, so that the call cannot start before the object ends.
        """
        yield from self.expect("{")
        name: str | None = None
        call_id: str | None = None
        early: str | None = None
        value: JSON = None
        seen, index = False, -1
        while True:
            yield from self.skip_space()
            if (yield from self.begins_with("}")):
                break
            key = load_json((yield from self.json_text()))
            yield from self.skip_space()
            yield from self.expect(":")
            if key in name_keys and name is None:
                name = _text(load_json((yield from self.json_text())), "name")
                if early is not None and not id_last:
                    index = yield from self.start_call(name, call_id)
            elif key in argument_keys and not seen:
                seen = True
                if name is not None and not id_last:
                    index = yield from self.start_call(name, call_id)
                    value = yield from self.arguments(index)
                else:
                    early = yield from self.json_text()
            elif key in id_keys and call_id is None:
                call_id = _text(load_json((yield from self.json_text())), "id")
            else:
                load_json((yield from self.json_text()))
            yield from self.skip_space()
            if (yield from self.expect("}", ",")) == "}":
                break
        if name is None or not seen:
            raise Broken(f"a call has no {argument_keys[0] if name else name_keys[0]!r}")
        if index < 0:
            index = yield from self.start_call(name, call_id)
        if early is not None:
            value = load_json(early)
            value = load_json(value) if isinstance(value, str) else {} if value is None else value
            yield ArgumentsDelta(index, json.dumps(value, ensure_ascii=False))
        return value

    def stop(self, expected: str, *, ends: bool = False) -> NoReturn:
        """Say that what stands here is no part of a call; `ends` where only the end of the answer can be the reason."""
        if self.ended and (ends or self.at == len(self.text)):
            raise Broken(f"the answer ends inside a call; {expected}")
        place, found = self._forgotten + self.at, self.text[self.at]
        raise Broken(f"a call cannot be read on from character {place} ({found!r}) of the answer; {expected}")


def load_json(text: str) -> JSON:
    """Read strict JSON that can be written again.

    Raises:
        Broken: it is not JSON, too deep, holds a number that is none, or half of a surrogate pair.
    """
    if text.count("[") + text.count("{") > _DEEPEST and _depth(text) > _DEEPEST:
        raise Broken(f"a call holds JSON with more than {_DEEPEST} brackets inside each other")
    try:
        value: JSON = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        text.encode()
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Broken(f"a call holds {text!r:.80}, which is not JSON: {error}") from error
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for found in _TOKEN.finditer(text):
        depth += (found[0] in "[{") - (found[0] in "]}")
        deepest = max(deepest, depth)
    return deepest


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return value


def _text(value: JSON, what: str) -> str:
    if not isinstance(value, str):
        raise Broken(f"a call has {value!r:.80} as its {what}; expected text")
    return value


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _overlap(text: str, at: int, spellings: Sequence[str]) -> int:
    """Return how many characters at the end of the text, after `at`, may be the beginning of a spelling."""
    tail = text[max(at, len(text) - max(map(len, spellings)) + 1) :]
    return next((len(tail) - i for i in range(len(tail)) if any(each.startswith(tail[i:]) for each in spellings)), 0)
