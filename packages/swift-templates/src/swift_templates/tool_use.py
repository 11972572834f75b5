"""Tools between messages and text: by the chat template's own way, or by a dialect that the user names.

Which dialect a chat template speaks is found by looking: it renders a call, and the dialect that reads just this call
out of what it wrote is its own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

from .dialect import DIALECTS, Dialect, check_tools, load_dialect
from .errors import SwiftTemplatesError, TemplateMismatch
from .lookalikes import Lookalikes, absent_marks
from .messages import JSON, Conversation, Media, Message, ToolCall
from .reasoning import split_reasoning
from .rendering import Renderer
from .tokenizer import Tokenizer

_PROBE = ToolCall("look_up", {"word": "rain", "times": 2}, "abcdefghi")
_TOOL: dict[str, JSON] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string"}, "times": {"type": "integer"}},
            "required": ["word"],
        },
    },
}


class Written(NamedTuple):
    """A conversation as the chat template takes it."""

    conversation: Conversation
    by_dialect: bool = False
    """Tools, calls and results have become text."""
    mark: str | None = None
    """Breaks what looks like the chat template's or the dialect's own tokens in what the user and the tools say."""


class ToolUse:
    """How one model is told of tools and calls them.

    Args:
        renderer: of its chat template.
        tokenizer: finds what looks like a control token.
        chosen: name of the dialect to use instead of the chat template's own.

    Raises:
        UnknownName: there is no such dialect.
    """

    def __init__(self, renderer: Renderer, tokenizer: Tokenizer, chosen: str | None) -> None:
        self._renderer = renderer
        self._tokenizer = tokenizer
        self._chosen = None if chosen is None else load_dialect(chosen)
        self._own_lookalikes = renderer.own_lookalikes
        if self._chosen is not None:
            self._own_lookalikes = self._own_lookalikes.and_more(tokenizer.lookalikes_in(_sample_of(self._chosen)))

    @functools.cached_property
    def dialect(self) -> Dialect | None:
        """What the model speaks: the chosen dialect, or the chat template's own; None if that is not a known one."""
        return self._chosen or find_dialect(self._renderer, self._tokenizer)

    def written(self, conversation: Conversation) -> Written:
        """Return a conversation as the chat template takes it.

        Raises:
            InvalidTools: the tools are not OpenAI's, or the chosen dialect cannot write something.
            TemplateMismatch: the chosen dialect writes control tokens, which text cannot hold.
        """
        check_tools(conversation.tools)
        if self._chosen is None or not (conversation.tools or any(map(_is_about_tools, conversation.messages))):
            return Written(conversation)
        conversation, mark = self._guarded(conversation)
        rewritten = self._chosen.rewrite(conversation)
        lookalikes = self._tokenizer.answer_lookalikes
        # What looks like a control token in the row is its text, and stays text; what the dialect adds would be none.
        if lookalikes.occur_in(_contents(rewritten)) and lookalikes.occur_in(
            _contents(self._chosen.rewrite(_broken(conversation, lookalikes)))
        ):
            raise TemplateMismatch(
                f"{self._chosen.name} writes control tokens of this model, which would be read as plain text; leave "
                "agent_template out, so that the model's own chat template writes the calls, or take another dialect"
            )
        return Written(rewritten, True, mark)

    def _guarded(self, conversation: Conversation) -> tuple[Conversation, str | None]:
        """Break what looks like the tokens that the dialect is about to write; calls it writes with care itself."""
        own = self._own_lookalikes
        said: list[JSON] = [each.content for each in conversation.messages if each.role != "assistant"]
        if not own or not own.occur_in([*said, *conversation.tools]):
            return conversation, None
        calls: list[JSON] = [call.arguments for message in conversation.messages for call in message.tool_calls]
        thoughts: list[JSON] = [message.reasoning_content for message in conversation.messages]
        [mark] = absent_marks([*_contents(conversation), *thoughts, *calls, *conversation.tools], 1)
        messages = [
            each if each.role == "assistant" else _broken_message(each, own, mark) for each in conversation.messages
        ]
        tools = [_broken_object(each, own, mark) for each in conversation.tools]
        return dataclasses.replace(conversation, messages=tuple(messages), tools=tuple(tools)), mark


def find_dialect(renderer: Renderer, tokenizer: Tokenizer) -> Dialect | None:
    """Return the dialect in which a chat template writes calls, or None."""
    question, call = Message(role="user", content="ask"), Message(role="assistant", content="", tool_calls=(_PROBE,))
    try:
        try:
            rendering = renderer.open(Conversation(messages=(question, call), tools=(_TOOL,)))
        except TemplateMismatch:
            # Some chat templates write calls, but leave it to the system prompt to tell of the tools.
            rendering = renderer.open(Conversation(messages=(question, call)))
        prompt, whole = rendering.prompt(1), rendering.history(2)
    except SwiftTemplatesError:
        return None
    if not whole.startswith(prompt):
        return None
    written = whole[len(prompt) :]
    stops = {text for text in tokenizer.special_ids if written.rstrip().endswith(text)}
    endings = [written, *(written.rstrip().removesuffix(text) for text in sorted(stops, key=len, reverse=True))]
    for name in DIALECTS.names():
        dialect = load_dialect(name)
        for text in endings:
            parsed = dialect.parse(text, (_TOOL,))
            called = [(each.name, each.arguments) for each in parsed.calls]
            if called == [(_PROBE.name, _PROBE.arguments)] and not split_reasoning(parsed.content)[1].strip():
                return dialect
    return None


def _is_about_tools(message: Message) -> bool:
    return message.role == "tool" or bool(message.tool_calls)


def _contents(conversation: Conversation) -> list[JSON]:
    return [message.content for message in conversation.messages]


def _sample_of(dialect: Dialect) -> str:
    """Return all that a dialect writes around tools, calls and results."""
    call = dataclasses.replace(_PROBE, arguments={"word": "rain"})
    messages = (
        Message(role="user", content="ask"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="wet", tool_call_id=call.id),
    )
    written = dialect.rewrite(Conversation(messages=messages, tools=(_TOOL,)))
    return "\n".join(message.content for message in written.messages)


def _broken_object(value: dict[str, JSON], lookalikes: Lookalikes, mark: str) -> dict[str, JSON]:
    return {name: lookalikes.broken(each, mark) for name, each in value.items()}


def _broken_message(message: Message, lookalikes: Lookalikes, mark: str) -> Message:
    """Return a message whose content is broken; media move with their text."""
    content, begin = "", 0
    media: list[Media] = []
    for each in message.media:
        content += str(lookalikes.broken(message.content[begin : each.at], mark))
        media.append(dataclasses.replace(each, at=len(content)))
        begin = each.at
    content += str(lookalikes.broken(message.content[begin:], mark))
    return dataclasses.replace(message, content=content, media=tuple(media))


def _broken(conversation: Conversation, lookalikes: Lookalikes) -> Conversation:
    """Return a conversation in which nothing looks like a control token."""
    calls: list[JSON] = [call.arguments for message in conversation.messages for call in message.tool_calls]
    [mark] = absent_marks([*_contents(conversation), *calls, *conversation.tools], 1)

    def broken(message: Message) -> Message:
        calls = [
            dataclasses.replace(call, arguments=_broken_object(call.arguments, lookalikes, mark))
            for call in message.tool_calls
        ]
        content = str(lookalikes.broken(message.content, mark))
        return dataclasses.replace(message, content=content, tool_calls=tuple(calls))

    tools = [_broken_object(each, lookalikes, mark) for each in conversation.tools]
    return dataclasses.replace(conversation, messages=tuple(map(broken, conversation.messages)), tools=tuple(tools))
