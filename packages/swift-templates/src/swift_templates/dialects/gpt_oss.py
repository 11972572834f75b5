r"""gpt-oss: OpenAI's harmony, where a call is a message to a function, in the commentary channel.

The developer message ends with:

    # Tools

    ## functions

    namespace functions {

    // Get the weather.
    type get_weather = (_: {
    // The city.
    city: string,
    days?: number, // default: 3
    }) => any;

    } // namespace functions

After "<|start|>assistant", the assistant says (a preamble) and calls, once an answer, all on one line:

    <|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant
    <|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>

The recipient may stand before the channel, too. An answer in the final channel is read as its text; other channels,
such as analysis, stay in the text as they are written. The result is a 'tool' message as it is; its header,
<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>, is the chat template's.

Source: docs/format.md of openai/harmony.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..dialect import Dialect, json_text
from ..messages import Message, Role, ToolCall
from ._events import Steps, TextDelta
from ._reader import Reader
from ._tools import Tool
from ._typescript import namespace

_START, _CHANNEL, _MESSAGE, _END = "<|start|>assistant", "<|channel|>", "<|message|>", "<|end|>"
_CALL, _CONSTRAIN = "<|call|>", "<|constrain|>"
_MARKS = ("<|start|>", _CHANNEL, _MESSAGE, _END, _CALL, _CONSTRAIN, "<|return|>")
_HEADERS = (_START, _CHANNEL)
_HEADER = re.compile("|".join(map(re.escape, _HEADERS)))
_ENDS = (_END, "<|return|>")
_ENDING = re.compile("|".join(map(re.escape, _ENDS)))
_RECIPIENT = re.compile(r"to=(\S+?)(?=[\s<]|\Z)")


class GptOss(Dialect):
    """Harmony's commentary channel."""

    several_calls = False
    marks_text = True

    def render_tools(self, tools: Sequence[Tool]) -> str:
        """See `Dialect.render_tools`."""
        return "# Tools\n\n" + namespace("functions", tools)

    def write(self, content: str, calls: Sequence[ToolCall], tools: Sequence[Tool]) -> str:
        """See `Dialect.write`."""
        preamble = f"{_CHANNEL}commentary{_MESSAGE}{content}{_END}{_START}" if content else ""
        arguments = json_text(dict(calls[0].arguments), _MARKS)
        header = f"{_CHANNEL}commentary to=functions.{calls[0].name} {_CONSTRAIN}json{_MESSAGE}"
        return preamble + header + arguments + _CALL

    def read(self, reader: Reader, tools: Sequence[Tool]) -> Steps[None]:
        """See `Dialect.read`."""
        recipient_first = yield from self._begins_with_recipient(reader)
        while recipient_first or (yield from reader.text_until(_HEADER, _HEADERS)):
            recipient_first = False
            begun = reader.mark
            yield from reader.until(_MESSAGE)
            header = reader.text[begun : reader.at].removesuffix(_MESSAGE).removeprefix(_START)
            recipient = _RECIPIENT.search(header)
            if recipient is None:
                yield from self._read_text(reader, header, begun)
                continue
            index = yield from reader.start_call(recipient[1].removeprefix("functions."))
            arguments = yield from reader.arguments(index)
            # The token that ends the answer may be gone.
            if (yield from reader.skip_space()):
                yield from reader.expect(_CALL, _END)
            yield from reader.finish_call(arguments)

    def _begins_with_recipient(self, reader: Reader) -> Steps[bool]:
        # What follows "<|start|>assistant" in the prompt.
        found = yield from reader.begins_with(" to=functions.")
        reader.at = 0
        return found

    def _read_text(self, reader: Reader, header: str, begun: int) -> Steps[None]:
        """Give away what the user may see without its header and end; leave other channels as they are."""
        channel = header.strip().removeprefix(_CHANNEL).split(" ")[0].partition("<")[0].strip()
        if channel not in ("commentary", "final"):
            yield TextDelta(reader.text[begun : reader.at])
            end = yield from reader.text_until(_ENDING, _ENDS)
            yield TextDelta(end)
            return
        yield from reader.text_until(_ENDING, _ENDS)

    def render_results(self, messages: Sequence[Message]) -> tuple[Role, str]:
        """See `Dialect.render_results`."""
        return "tool", "\n".join(each.content for each in messages)
