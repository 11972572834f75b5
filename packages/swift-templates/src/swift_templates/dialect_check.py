"""The contract of an agent dialect, for the tests of whoever writes one."""

# ruff: noqa: RUF001  # tokens of DeepSeek have bars of their own
from __future__ import annotations

from collections.abc import Iterable, Sequence

from .dialect import Dialect, InvalidTools, Tool, join_events
from .errors import LawBroken
from .messages import JSON, Conversation, Message, ToolCall, check_conversation

TOOLS: tuple[Tool, ...] = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city."},
                    "days": {"type": "integer"},
                    "exact": {"type": "boolean"},
                    "options": {"type": "object"},
                    "parts": {"type": "array", "items": {"type": "string"}},
                    "note": {"type": ["string", "null"]},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "get_time", "description": "Get the time."}},
)
"""What the calls of the check are calls of."""

_PLAIN: tuple[dict[str, JSON], ...] = (
    {"city": "Paris"},
    {"city": "", "days": 0},
    {"city": "São Paulo 東京 🎉 e\u0301", "exact": True, "note": None},
    {"city": 'say "hi" to {the} [world], \\ and / and \t', "days": -3},
    {"city": "two\nlines\n", "parts": ["a", "b\nc", "{"], "options": {"deep": {"er": [1, 2.5, None, {"x": "}"}]}}},
    {"city": "12", "days": 12, "options": {}, "parts": []},
)
_MARKS: tuple[str, ...] = (
    "<tool_call>", "</tool_call>", "</parameter>", "</arg_value>", "<|python_tag|>", "[TOOL_CALLS]", "[/TOOL_RESULTS]",
    "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<|action_end|>", "<|END_ACTION|>", "<|call|>", "<|message|>", "✿ARGS✿:",
    "\nAction:", "\nObservation:", "```", ")]",
)  # fmt: skip
_TEXTS = ("Let me see.", "Two lines\nof text", "\n edges \n", "日本語 🎉", 'like {"name": 1} this')


def check_dialect(dialect: Dialect, messages: Iterable[Message] = ()) -> None:
    """Check the laws of a dialect.

    Args:
        dialect: what is checked.
        messages: answers, with calls of `TOOLS`, to be checked besides a few that are known to make trouble.

    Raises:
        LawBroken: a law does not hold; the message says which, on what.
    """
    _check_prompt(dialect)
    for call in _calls(_PLAIN):
        message = Message(role="assistant", content="", tool_calls=(call,))
        try:
            _check_answer(dialect, message)
        except InvalidTools as error:
            raise LawBroken(f"{dialect.name} cannot write {call!r}: {error}") from error
    for message in [*_troublesome(dialect), *messages]:
        try:
            _check_answer(dialect, message)
        except InvalidTools:
            # A dialect may refuse what it cannot say, but must not say something else.
            continue
    for text in ("", "Hello.", "\n", *_MARKS, *(each * 3 for each in _MARKS), "{", "[", '{"name": ', "[f(", "f\n{"):
        _check_text(dialect, text)
    _check_limits(dialect)
    _check_rewriting(dialect)


def _check_prompt(dialect: Dialect) -> None:
    prompt = dialect.render_tools(TOOLS)
    for name in ("get_weather", "get_time", "Get the weather.", "city", "days"):
        _require(name in prompt, f"the prompt of {dialect.name} lacks {name!r}: {prompt!r}")
    role, content = dialect.render_results([Message(role="tool", content="21 degrees", tool_call_id="call_0")])
    _require("21 degrees" in content, f"a result is not in what {dialect.name} makes of it: {content!r}")
    _require(role in ("user", "tool"), f"{dialect.name} gives a result the role {role!r}")


def _check_answer(dialect: Dialect, message: Message) -> None:
    text = dialect.render_calls(message, TOOLS)
    parsed = dialect.parse(text, TOOLS)
    where = f"by {dialect.name} on {message!r}, written as {text!r}"
    _require(parsed.problem is None, f"a problem is seen ({parsed.problem}) {where}")
    _require(parsed.content == message.content, f"the text is read as {parsed.content!r} {where}")
    read, meant = ([(each.name, each.arguments) for each in calls] for calls in (parsed.calls, message.tool_calls))
    _require(read == meant, f"the calls are read as {read!r} {where}")
    ids = [call.id for call in parsed.calls]
    _require(None not in ids and len({*ids}) == len(ids), f"the ids are {ids!r} {where}")
    _require(dialect.parse(text, TOOLS) == parsed, f"reading twice gives two results {where}")
    _check_text(dialect, text)
    for end in range(0, len(text), max(1, len(text) // 8)):
        _check_text(dialect, text[:end])


def _check_text(dialect: Dialect, text: str) -> None:
    """A stream in any pieces joins to what the whole is read as, and no text is lost that is not part of a call."""
    parsed = dialect.parse(text, TOOLS)
    if not parsed.calls and parsed.problem is not None and not dialect.marks_text:
        _require(parsed.content == text, f"{dialect.name} reads {text!r} as text {parsed.content!r} without any call")
    for size in (1, 7):
        stream = dialect.stream(TOOLS)
        events = [event for at in range(0, len(text), size) for event in stream.feed(text[at : at + size])]
        events += stream.finish()
        found = (*join_events(events), stream.problem)
        _require(
            found == (parsed.content, parsed.calls, parsed.problem),
            f"{dialect.name} streams {text!r} in pieces of {size} as {found!r}; the whole is {parsed!r}",
        )


def _check_limits(dialect: Dialect) -> None:
    """What a dialect says it cannot do is refused; what it does not say so of is done."""
    call, other = _calls(_PLAIN[:2])
    for able, message in (
        (dialect.several_calls, Message(role="assistant", content="", tool_calls=(call, other))),
        (dialect.text_beside_calls, Message(role="assistant", content="Let me see.", tool_calls=(call,))),
    ):
        try:
            dialect.render_calls(message, TOOLS)
        except InvalidTools as error:
            _require(not able, f"{dialect.name} refuses {message!r}: {error}")
        else:
            _require(able, f"{dialect.name} writes {message!r}, which it says it cannot")


def _check_rewriting(dialect: Dialect) -> None:
    [call] = _calls(_PLAIN[:1])
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="How is the weather?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="21 degrees", tool_call_id="call_0"),
        Message(role="assistant", content="Fine."),
    )
    for talk in (messages, messages[1:], messages[:4]):
        rewritten = dialect.rewrite(Conversation(messages=talk, tools=TOOLS))
        check_conversation(rewritten, prompt=talk[-1].role != "assistant")
        _require(not rewritten.tools, f"tools are left after {dialect.name} has rewritten a conversation")
        _require(
            not any(each.tool_calls for each in rewritten.messages), f"calls are left after rewriting by {dialect.name}"
        )
        _require("get_time" in rewritten.messages[0].content, f"{dialect.name} loses the tools of a conversation")


def _troublesome(dialect: Dialect) -> list[Message]:
    marked = _calls([{"city": f"a {mark} b", "options": {mark: [mark]}} for mark in _MARKS])
    plain = _calls(_PLAIN)
    messages = [Message(role="assistant", content="", tool_calls=(call,)) for call in marked]
    messages += [Message(role="assistant", content=text, tool_calls=(plain[0],)) for text in (*_TEXTS, *_MARKS)]
    messages.append(Message(role="assistant", content="", tool_calls=(*plain, ToolCall("get_time", {}))))
    messages.append(Message(role="assistant", content="All of them.", tool_calls=plain))
    return messages


def _calls(arguments: Sequence[dict[str, JSON]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall("get_weather", each, f"call_{position}") for position, each in enumerate(arguments))


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise LawBroken(law)
