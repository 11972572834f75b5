"""Calls that are a JSON object between two marks: what Hermes, InternLM and others have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from ..dialect import Dialect, json_text
from ..messages import ToolCall
from ._events import Steps
from ._reader import Reader
from ._tools import Tool


class JsonCalls(Dialect):
    """Each call is `opening`, a JSON object, `closing`."""

    opening: ClassVar[str]
    closing: ClassVar[str]
    around: ClassVar[tuple[str, str]] = ("", "")
    """What stands before and after the object."""
    separator: ClassVar[str] = ""
    """What stands before a call that is not the first thing in the answer."""
    arguments_key: ClassVar[str] = "arguments"

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        marks, (before, after) = (self.opening, self.closing), self.around
        texts = [content] if content else []
        for call in calls:
            name, arguments = json_text(call.name, marks), json_text(dict(call.arguments), marks)
            written = f'{{"name": {name}, "{self.arguments_key}": {arguments}}}'
            texts.append(f"{self.opening}{before}{written}{after}{self.closing}")
        return self.separator.join(texts)

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        markers = [self.separator + self.opening, self.opening] if self.separator else [self.opening]
        pattern = re.compile("|".join(map(re.escape, markers)))
        while (yield from reader.text_until(pattern, markers)):
            yield from reader.skip_space()
            arguments = yield from reader.call_object(name_keys=("name",), argument_keys=("arguments", "parameters"))
            yield from reader.skip_space()
            yield from reader.expect(self.closing)
            yield from reader.finish_call(arguments)
