"""Calls read back: as models write them, malformed, cut off, and in pieces."""

# ruff: noqa: RUF001  # tokens of DeepSeek have bars of their own
from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from swift_templates.dialect import (
    DIALECTS,
    ArgumentsDelta,
    CallDropped,
    CallFinished,
    CallStarted,
    TextDelta,
    join_events,
    load_dialect,
)
from swift_templates.messages import JSON, Message, ToolCall

NAMES = DIALECTS.names()
LOADED = {name: load_dialect(name) for name in NAMES}
WEATHER = ToolCall("get_weather", {"city": "Paris", "days": 3}, "Xq3bA91Zt")
CLOCK = ToolCall("get_time", {}, "call_1")


def answer(content: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls)


def result(content: str, call_id: str | None = None) -> Message:
    return Message(role="tool", content=content, tool_call_id=call_id)


# What models write besides the official format, and what of it is a call.
READ = {
    "arguments before the name": ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', {"a": 1}),
    "arguments in a text": ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', {"a": 1}),
    "null arguments": ("hermes", '<tool_call>\n{"name": "f", "arguments": null}\n</tool_call>', {}),
    "other keys": ("hermes", '<tool_call>{"id": 3, "name": "f", "arguments": {}, "x": []}</tool_call>', {}),
    "llama without its tag after a line": ("llama3", '\n{"name": "f", "parameters": {"a": 1}}\n', {"a": 1}),
    "a list after a line": ("llama4", "\n [f(a=1)]\n", {"a": 1}),
    "llama without its tag": ("llama3", '{"name": "f", "parameters": {"a": 1}}', {"a": 1}),
    "llama 4 between its tags": ("llama4", "<|python_start|>[f(a='x\\'y')]<|python_end|>", {"a": "x'y"}),
    "python's values": (
        "llama4",
        "[f(a=None, b=(True, -1.5), c={'d': \"\"})]",
        {"a": None, "b": [True, -1.5], "c": {"d": ""}},
    ),
    "a newer mistral": ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}', {"a": 1}),
    "a newer mistral with an id": ("mistral", '[TOOL_CALLS]f[CALL_ID]Xq3bA91Zt[ARGS]{"a": 1}', {"a": 1}),
    "harmony without its end": ("gpt_oss", '<|channel|>commentary to=functions.f<|message|>{"a": 1}', {"a": 1}),
    "harmony's recipient first": (
        "gpt_oss",
        ' to=functions.f<|channel|>commentary <|constrain|>json<|message|>{"a": 1}<|call|>',
        {"a": 1},
    ),
    "deepseek cut after its call": (
        "deepseek_v3_1",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>',
        {"a": 1},
    ),
    "qwen up to its stop word": ("qwen_en", '✿FUNCTION✿: f\n✿ARGS✿: {"a": 1}\n✿RESULT✿', {"a": 1}),
    "react without an observation": ("react_en", 'Action: f\nAction Input:\n{"a": 1}\n', {"a": 1}),
    "a lower case true": (
        "qwen3_coder",
        "<tool_call>\n<function=f>\n<parameter=a>\ntrue\n</parameter>\n</function>\n</tool_call>",
        {"a": True},
    ),
    "spaces in tags": ("glm4_5", "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>\n", {"a": 1}),
}


@pytest.mark.parametrize(("name", "text", "arguments"), READ.values(), ids=READ)
def test_what_models_write_is_read(name: str, text: str, arguments: dict[str, JSON]) -> None:
    parsed = LOADED[name].parse(text)
    assert (parsed.content, parsed.problem) == ("", None)
    assert [(call.name, call.arguments) for call in parsed.calls] == [("f", arguments)]


# Text that begins as a call and is none: all of it stays, with a reason.
BROKEN = {
    "cut in the arguments": ("hermes", 'Hm.\n<tool_call>\n{"name": "f", "arguments": {"a": "b', "ends inside a call"),
    "cut before the end": ("hermes", '<tool_call>\n{"name": "f", "arguments": {}}\n', "'</tool_call>'"),
    "not JSON": ("hermes", "<tool_call>\n{'name': 'f'}\n</tool_call>", "which is not JSON"),
    "no name": ("hermes", '<tool_call>\n{"arguments": {}}\n</tool_call>', "no 'name'"),
    "no arguments": ("hermes", '<tool_call>\n{"name": "f"}\n</tool_call>', "no 'arguments'"),
    "an empty name": ("hermes", '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>', "expected the name"),
    "a number as name": ("hermes", '<tool_call>\n{"name": 1, "arguments": {}}\n</tool_call>', "expected text"),
    "a list as arguments": ("hermes", '<tool_call>\n{"name": "f", "arguments": []}\n</tool_call>', "JSON object"),
    "not a number": ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": NaN}}\n</tool_call>', "no number"),
    "too large": ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": 1e999}}\n</tool_call>', "too large"),
    "half a pair": ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": "\\ud800"}}\n</tool_call>', "not JSON"),
    "too many digits": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": %s}}</tool_call>' % ("1" * 5000),
        "not JSON",
    ),
    "too deep": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": %s' % ("[" * 99999 + "]" * 99999 + "}}"),
        "brackets",
    ),
    "too deep in python": ("llama4", "[f(a=%s)]" % ("[" * 99999), "brackets"),
    "half of it python": ("llama4", "[g(a=(1, ", "ends inside a call"),
    "no such character": ("llama4", "[f(a='\\U00ffffff')]", "no character"),
    "a word of nothing": ("llama4", "[f(a=wrong)]", "which is not JSON"),
    "twice the same": ("qwen3_coder", "<tool_call><function=f><parameter=a>1</parameter><parameter=a>", "twice"),
    "another tag": ("qwen3_coder", "<tool_call><function=f><param>", "expected '<parameter=' or '</function>'"),
    "a value without its end": ("glm4_5", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>b", "ends inside a call"),
    "a list that does not end": ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "a"', "ends inside"),
    "an action alone": ("react_en", "Thought: x\nAction: f\nThought: y", "expected 'Action Input:'"),
    "python for a plugin": ("internlm", "<|action_start|><|plugin|>\nprint(1)<|action_end|>", "expected '{'"),
    "no type": ("deepseek_v3", "<｜tool▁calls▁begin｜>f", "expected '<｜tool▁call▁begin｜>'"),
    "a header without a message": ("gpt_oss", "<|channel|>commentary to=functions.f", "ends inside a call"),
}


@pytest.mark.parametrize(("name", "text", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_malformed_stays_text_with_a_reason(name: str, text: str, reason: str) -> None:
    parsed = LOADED[name].parse(text)
    assert (parsed.content, parsed.calls) == (text, ())
    assert parsed.problem is not None and reason in parsed.problem
    assert len(parsed.problem) < 400


# Text that only looks a little like a call.
HARMLESS = {
    "JSON that was asked for": ("llama3", '{"name": "Bob", "age": 3}'),
    "white space": ("llama3", "  \n"),
    "white space before python": ("llama4", "  \n [a"),
    "a brace": ("llama3", "{"),
    "a link": ("llama4", "[here](https://example.org) it is"),
    "a list": ("llama4", "[1, 2]"),
    "one word and code": ("glm4", "Sure\n\n{1, 2}"),
    "one word": ("glm4", "Yes"),
    "an action in a sentence": ("react_en", "The Action: it was taken."),
    "less than a tag": ("hermes", "a < b <tool"),
}


@pytest.mark.parametrize(("name", "text"), HARMLESS.values(), ids=HARMLESS)
def test_what_is_no_call_is_text_without_a_problem(name: str, text: str) -> None:
    parsed = LOADED[name].parse(text)
    assert (parsed.content, parsed.calls, parsed.problem) == (text, (), None)


def test_calls_before_a_malformed_one_are_kept() -> None:
    good = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    parsed = LOADED["hermes"].parse(f"Hm.\n{good}\n<tool_call>\nno\n</tool_call>\n{good}")
    assert [call.name for call in parsed.calls] == ["f"]
    assert parsed.content == f"Hm.\n<tool_call>\nno\n</tool_call>\n{good}"
    assert parsed.problem is not None


def test_text_after_a_call_is_kept() -> None:
    parsed = LOADED["hermes"].parse('A\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n\nB')
    assert (parsed.content, len(parsed.calls), parsed.problem) == ("A\n\nB", 1, None)


def test_harmony_s_channels_are_told_apart() -> None:
    thought = "<|channel|>analysis<|message|>Hm.<|end|>"
    final = LOADED["gpt_oss"].parse(f"{thought}<|start|>assistant<|channel|>final<|message|>It is 4.<|return|>")
    assert (final.content, final.problem) == (f"{thought}It is 4.", None)


def test_ids_are_made_from_what_the_server_says() -> None:
    text = LOADED["hermes"].render_calls(answer("", WEATHER, CLOCK))
    assert [call.id for call in LOADED["hermes"].parse(text).calls] == ["call_0", "call_1"]
    assert [call.id for call in LOADED["hermes"].parse(text, ids="call_7f_").calls] == ["call_7f_0", "call_7f_1"]
    text = LOADED["mistral"].render_calls(answer("", WEATHER, CLOCK))
    # The first nine digits of the SHA-256 of "call_1".
    assert [call.id for call in LOADED["mistral"].parse(text).calls] == ["Xq3bA91Zt", "74196fe72"]
    assert '"call_id": "74196fe72"' in LOADED["mistral"].render_results([result("x", "call_1")])[1]


def events_of(name: str, pieces: Sequence[str]) -> list[object]:
    stream = LOADED[name].stream()
    return [*(event for piece in pieces for event in stream.feed(piece)), *stream.finish()]


def test_text_comes_at_once_and_the_beginning_of_a_marker_is_held_back() -> None:
    stream = LOADED["hermes"].stream()
    assert stream.feed("Hello") == [TextDelta("Hello")]
    assert stream.feed(" a\n<tool") == [TextDelta(" a")]
    assert stream.feed("s> b") == [TextDelta("\n<tools> b")]
    assert stream.feed("\n<tool_call>") == []
    assert stream.feed("\nno") == [TextDelta("\n<tool_call>\nno")]
    assert stream.problem is not None
    assert stream.feed("more <tool_call>") == [TextDelta("more <tool_call>")]
    assert stream.finish() == []
    with pytest.raises(ValueError, match="finished"):
        stream.feed("x")


def test_arguments_come_while_they_are_written() -> None:
    stream = LOADED["hermes"].stream(ids="id_")
    assert stream.feed('<tool_call>\n{"name": "f", "arg') == []
    assert stream.feed('uments": {"a": "b') == [CallStarted(0, "id_0", "f"), ArgumentsDelta(0, '{"a": "b')]
    assert stream.feed("}\\") == [ArgumentsDelta(0, "}")]
    assert stream.feed('"c"}') == [ArgumentsDelta(0, '\\"c"}')]
    assert stream.feed("}\n</tool_call") == []
    assert stream.feed(">") == [CallFinished(0, ToolCall("f", {"a": 'b}"c'}, "id_0"))]
    assert stream.feed("\n") == []
    assert stream.finish() == []


def test_a_call_that_started_and_broke_is_dropped_and_told_as_text() -> None:
    text = 'Hm. <tool_call>{"name": "f", "arguments": {"a": }}</tool_call>'
    events = events_of("hermes", [text])
    assert [type(event) for event in events] == [TextDelta, CallStarted, ArgumentsDelta, CallDropped, TextDelta]
    assert join_events(events) == (text, ())  # type: ignore[arg-type]  # they are events


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"a": "%s"}}\n</tool_call>\n'
    for text in (
        call % "x" * 1000,
        call % ("x" * 100_000),
        "<tool_call" * 10_000,
        "\n" * 100_000,
        call % "x" + "\n" * 100_000,
    ):
        begun = time.perf_counter()
        stream = LOADED["hermes"].stream()
        for at in range(0, len(text), 4):
            stream.feed(text[at : at + 4])
        stream.finish()
        # About 0.5 s on one core of a small server.
        assert time.perf_counter() - begun < 5
