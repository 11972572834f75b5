"""Tools between messages and text: by the chat template's own way, or by a dialect that the user names.

Which dialect a chat template speaks is found by looking: it renders a call, and the dialect that reads just this call
out of what it wrote is its own.
"""

from __future__ import annotations

import dataclasses
import functools

from .dialect import DIALECTS, Dialect, check_tools, load_dialect
from .errors import SwiftTemplatesError, TemplateMismatch
from .lookalikes import Lookalikes, absent_marks
from .messages import JSON, Conversation, Message, ToolCall
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

    @functools.cached_property
    def dialect(self) -> Dialect | None:
        """What the model speaks: the chosen dialect, or the chat template's own; None if that is not a known one."""
        return self._chosen or find_dialect(self._renderer, self._tokenizer)

    def written(self, conversation: Conversation) -> Conversation:
        """Return a conversation as the chat template takes it.

        Raises:
            InvalidTools: the tools are not OpenAI's, or the chosen dialect cannot write something.
            TemplateMismatch: the chosen dialect writes control tokens, which text cannot hold.
        """
        check_tools(conversation.tools)
        if self._chosen is None or not (conversation.tools or any(map(_is_about_tools, conversation.messages))):
            return conversation
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
        return rewritten


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


def _broken(conversation: Conversation, lookalikes: Lookalikes) -> Conversation:
    """Return a conversation in which nothing looks like a control token."""
    calls: list[JSON] = [call.arguments for message in conversation.messages for call in message.tool_calls]
    [mark] = absent_marks([*_contents(conversation), *calls, *conversation.tools], 1)

    def broken_object(value: dict[str, JSON]) -> dict[str, JSON]:
        return {name: lookalikes.broken(each, mark) for name, each in value.items()}

    def broken(message: Message) -> Message:
        calls = [dataclasses.replace(call, arguments=broken_object(call.arguments)) for call in message.tool_calls]
        content = str(lookalikes.broken(message.content, mark))
        return dataclasses.replace(message, content=content, tool_calls=tuple(calls))

    messages, tools = map(broken, conversation.messages), map(broken_object, conversation.tools)
    return dataclasses.replace(conversation, messages=tuple(messages), tools=tuple(tools))
