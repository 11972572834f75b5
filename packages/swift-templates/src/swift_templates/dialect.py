"""Agent dialects: how a model family writes tools, calls and results as text, and how a call is read back.

A new dialect is one file in `dialects/`, or an entry point in the group `swift_templates.dialects`. Reading a whole
answer is reading its stream in one piece, so both always agree; and whatever is written is read again before it is
given out, so what a model is trained on is what a server will understand.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .dialects._events import ArgumentsDelta as ArgumentsDelta
from .dialects._events import Broken, Steps
from .dialects._events import CallDropped as CallDropped
from .dialects._events import CallFinished as CallFinished
from .dialects._events import CallStarted as CallStarted
from .dialects._events import Event as Event
from .dialects._events import TextDelta as TextDelta
from .dialects._reader import Reader
from .dialects._tools import InvalidTools as InvalidTools
from .dialects._tools import Tool as Tool
from .dialects._tools import check_call as check_call
from .dialects._tools import check_tools as check_tools
from .messages import JSON, Conversation, Media, Message, Role, ToolCall
from .registry import Registry


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says and what it calls."""

    content: str
    """The text; a call that is malformed or cut off is part of it, as the model wrote it."""
    calls: tuple[ToolCall, ...] = ()
    problem: str | None = None
    """Why what looks like a call is none; None if all is well."""


class DialectStream:
    """An answer in pieces.

    Text that may be the beginning of a call is held back until it is known to be none.
    """

    def __init__(self, dialect: Dialect, tools: Sequence[Tool], ids: str) -> None:
        self._reader = Reader(ids)
        self._steps = self._read(dialect, tools)
        self.problem: str | None = None
        """Why what looked like a call was none, as soon as that is known."""

    def feed(self, piece: str) -> list[Event]:
        """Take the next piece of text; return what is certain by now."""
        if self._reader.ended:
            raise ValueError("the stream is finished; start another one for another answer")
        self._reader.text += piece
        return self._drain()

    def finish(self) -> list[Event]:
        """Say that the answer ends here; return what was held back."""
        self._reader.ended = True
        return self._drain()

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        for event in self._steps:
            if event is None:
                break
            events.append(event)
        return events

    def _read(self, dialect: Dialect, tools: Sequence[Tool]) -> Steps[None]:
        reader = self._reader
        try:
            yield from dialect.read(reader, tools)
        except Broken as error:
            if not error.quiet:
                self.problem = str(error)
            if reader.started is not None:
                yield CallDropped(reader.started.index, str(error))
            yield from reader.rest_as_text(reader.mark)
        else:
            yield from reader.rest_as_text(reader.at)


class Dialect(ABC):
    """One way to write tools, calls and results.

    A subclass gives `render_tools`, `write`, `read` and `render_results`; the rest follows from these.
    """

    several_calls: ClassVar[bool] = True
    """One answer may have several calls."""
    several_results: ClassVar[bool] = True
    """Several results may follow each other."""
    text_beside_calls: ClassVar[bool] = True
    """An answer with calls may say something too."""
    marks_text: ClassVar[bool] = False
    """What an answer says stands between marks too, which are not part of its content."""
    tools_first: ClassVar[bool] = False
    """The tools stand before the system prompt, not after it."""
    between: ClassVar[str] = "\n\n"
    """What stands between the system prompt and the tools."""
    stop_words: ClassVar[tuple[str, ...]] = ()
    """Texts at which a server must stop, because what follows is not the model's to write."""

    @abstractmethod
    def render_tools(self, tools: Sequence[Tool]) -> str:
        """Write OpenAI's tools as the text for the system prompt.

        Raises:
            InvalidTools: see `check_tools`.
        """

    @abstractmethod
    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """Write text and at least one call as the model does; `render_calls` checks before and after."""

    @abstractmethod
    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """Read an answer: give its text away, start and finish its calls, raise Broken where a call is none."""

    @abstractmethod
    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """Write the results that stand in a row, as one message.

        Args:
            messages: at least one of role 'tool'.

        Returns:
            The role, and the content. The chat template has to write a 'tool' message's content as it is.

        Raises:
            InvalidTools: there are several, and the dialect has one at a time.
        """

    def render_calls(self, message: Message, tools: Sequence[Tool] = ()) -> str:
        """Write an assistant's content and calls as the model does; a content without calls stays as it is.

        Args:
            message: from 'assistant'.
            tools: dialects that write arguments without their types need the schemas to read them again.

        Raises:
            InvalidTools: the dialect cannot write this so that it is read back as the same.
        """
        calls = message.tool_calls
        if not calls:
            return message.content
        if len(calls) > 1 and not self.several_calls:
            raise InvalidTools(
                f"an answer has {len(calls)} calls; {self.name} writes one an answer "
                "(split it, or take another dialect)"
            )
        if message.content and not self.text_beside_calls:
            raise InvalidTools(
                f"an answer has calls and the text {message.content!r:.80}; {self.name} writes either "
                "(leave the text out, or take another dialect)"
            )
        try:
            text = self.write(message.content, calls, tools)
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, InvalidTools):
                raise
            raise InvalidTools(f"the call of {calls[0].name!r} holds what JSON cannot say: {error}") from error
        self._check_reads_back(message, self.parse(text, tools))
        return text

    def parse(self, text: str, tools: Sequence[Tool] = (), *, ids: str = "call_") -> ParsedAnswer:
        """Read a whole answer; never raises, whatever the text.

        Args:
            text: what the model wrote, without the token that ends it.
            tools: see `render_calls`.
            ids: a call without an id of its own gets this and its index, so a server puts the request's name in.
        """
        stream = self.stream(tools, ids=ids)
        content, calls = join_events([*stream.feed(text), *stream.finish()])
        return ParsedAnswer(content, calls, stream.problem)

    def stream(self, tools: Sequence[Tool] = (), *, ids: str = "call_") -> DialectStream:
        """Read an answer in pieces; its events join to what `parse` returns."""
        return DialectStream(self, tools, ids)

    def rewrite(self, conversation: Conversation) -> Conversation:
        """Turn tools, calls and results into text, for a chat template that knows of none of them.

        Raises:
            InvalidTools: the dialect cannot write something of it.
        """
        tools = conversation.tools
        check_tools(tools)
        messages: list[Message] = []
        results: list[Message] = []
        for message in conversation.messages:
            if message.role == "tool":
                results.append(message)
                continue
            if results:
                messages.append(self._result_message(results))
                results = []
            messages.append(self._rewritten(message, tools) if message.tool_calls else message)
        if results:
            messages.append(self._result_message(results))
        if tools:
            messages = self._with_tools(messages, self.render_tools(tools))
        return dataclasses.replace(conversation, messages=tuple(messages), tools=())

    @property
    def name(self) -> str:
        """What the dialect is called in messages: the name of its file."""
        return f"the dialect {type(self).__module__.rpartition('.')[2]!r}"

    def _with_tools(self, messages: list[Message], text: str) -> list[Message]:
        if not messages or messages[0].role != "system":
            return [Message(role="system", content=text), *messages]
        system = messages[0]
        if not self.tools_first:
            content = system.content + self.between + text if system.content else text
            return [dataclasses.replace(system, content=content), *messages[1:]]
        before = text + self.between
        media = _moved(system.media, len(before))
        return [dataclasses.replace(system, content=before + system.content, media=media), *messages[1:]]

    def _rewritten(self, message: Message, tools: Sequence[Tool]) -> Message:
        text = self.render_calls(message, tools)
        if message.media and not text.startswith(message.content):
            raise InvalidTools(f"an answer has calls and media; {self.name} has no place for media there")
        return dataclasses.replace(message, content=text, tool_calls=())

    def _result_message(self, results: Sequence[Message]) -> Message:
        if len(results) > 1 and not self.several_results:
            raise InvalidTools(f"{len(results)} results stand in a row; {self.name} has one at a time")
        role, content = self.render_results(results)
        media: tuple[Media, ...] = ()
        if any(each.media for each in results):
            start = content.find(results[0].content)
            if len(results) > 1 or start < 0 or not results[0].content:
                raise InvalidTools(
                    f"results have media; {self.name} can place them only in a single result that has text too"
                )
            media = _moved(results[0].media, start)
        return Message(role=role, content=content, media=media)

    def _check_reads_back(self, message: Message, parsed: ParsedAnswer) -> None:
        calls = [(each.name, each.arguments) for each in parsed.calls]
        if parsed.problem is None and parsed.content == message.content:
            if _is_same(calls, [(each.name, each.arguments) for each in message.tool_calls]):
                return
            read = f"the calls {calls!r:.200}"
        else:
            read = f"the text {parsed.content!r:.200} ({parsed.problem or 'no problem seen'})"
        raise InvalidTools(
            f"an answer with a call of {message.tool_calls[0].name!r} would be read as {read}; {self.name} cannot "
            "write this text or these arguments (give the tools' schemas, change the row, or take another dialect)"
        )


def join_events(events: Iterable[Event]) -> tuple[str, tuple[ToolCall, ...]]:
    """Return the text and the calls that a stream's events are about."""
    events = list(events)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return text, tuple(event.call for event in events if isinstance(event, CallFinished))


def json_text(value: JSON, markers: Sequence[str] = (), *, indent: int | None = None) -> str:
    """Write JSON as chat templates do, in which no marker stands.

    A marker inside of a text gets its first character escaped: JSON that means the same, and that no parser and no
    tokenizer takes for the marker.

    Raises:
        ValueError: the value holds what JSON cannot say.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    for marker in markers:
        text = text.replace(marker, f"\\u{ord(marker[0]):04x}{marker[1:]}")
    return text


DIALECTS: Registry[Dialect] = Registry(kind="agent dialect", package="swift_templates.dialects", base=Dialect)
"""Ways to write tools; each file there is one, and its name is the dialect's name."""


def load_dialect(name: str) -> Dialect:
    """Return the dialect of a name. Raises as `Registry.load` does."""
    found = DIALECTS.load(name)
    return found() if isinstance(found, type) else found


def _moved(media: Sequence[Media], by: int) -> tuple[Media, ...]:
    return tuple(dataclasses.replace(each, at=each.at + by) for each in media)


def _is_same(left: object, right: object) -> bool:
    # 1, 1.0 and True are equal to Python.
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_same(each, right[key]) for key, each in left.items())
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(_is_same, left, right))
    return type(left) is type(right) and left == right
