"""Random calls, random texts and random cuts: what is written is read back, and nothing raises."""

# ruff: noqa: RUF001  # tokens of DeepSeek have bars of their own
from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from swift_templates.dialect import (
    DIALECTS,
    ArgumentsDelta,
    CallFinished,
    CallStarted,
    Dialect,
    InvalidTools,
    Tool,
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


# Their arguments are JSON, so that every JSON object can be said.
IN_JSON = [name for name in NAMES if name not in ("llama4", "glm4_5", "qwen3_coder")]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TEXTS = st.lists(
    st.sampled_from([
        "<tool_call>", "</tool_call>", "{", "}", "[", "]", '"', "'", "\\", "\n", " ", ":", ",", "(", ")", "=", "f", "1",
        '{"name": "f", "arguments": {"a": [1, "x"]}}', "<function=f>", "</function>", "<parameter=a>", "</parameter>",
        "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", ";",
        "<|channel|>", "commentary to=functions.f", "final", "<|message|>", "<|end|>", "<|call|>", "<|start|>assistant",
        "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "```json", "```", "[f(a=",
        "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<|action_start|><|plugin|>", "<|action_end|>", "✿FUNCTION✿:",
        "✿ARGS✿:", "✿RESULT✿", "Action:", "Action Input:", "Observation:", "<|START_ACTION|>", "<|END_ACTION|>", "é🎉",
    ]) | st.text(max_size=5),
    max_size=14,
).map("".join)  # fmt: skip
JSONS: st.SearchStrategy[JSON] = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CALL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,30}", fullmatch=True)
CONTENTS = st.text(alphabet=st.characters(exclude_characters="<[✿:{"), max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(IN_JSON),
    CONTENTS,
    st.lists(st.tuples(CALL_NAMES, st.dictionaries(st.text() | TEXTS, JSONS, max_size=4)), min_size=1, max_size=3),
)
def test_whatever_is_json_is_written_and_read_back(
    name: str, content: str, made: list[tuple[str, dict[str, JSON]]]
) -> None:
    dialect = LOADED[name]
    calls = [ToolCall(each, arguments) for each, arguments in made[: 3 if dialect.several_calls else 1]]
    content = content if dialect.text_beside_calls else ""
    text = dialect.render_calls(answer(content, *calls))
    parsed = dialect.parse(text)
    assert parsed.problem is None
    assert parsed.content == content
    assert [(call.name, json.dumps(call.arguments)) for call in parsed.calls] == [
        (call.name, json.dumps(call.arguments)) for call in calls
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["llama4", "glm4_5", "qwen3_coder"]),
    CALL_NAMES,
    st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), JSONS, max_size=4),
)
def test_other_dialects_read_back_what_they_write_and_refuse_the_rest(
    name: str, function: str, arguments: dict[str, JSON]
) -> None:
    schema: JSON = {key: {"type": "string"} for key, value in arguments.items() if isinstance(value, str)}
    tool: Tool = {"type": "function", "function": {"name": function, "parameters": {"properties": schema}}}
    try:
        text = LOADED[name].render_calls(answer("", ToolCall(function, arguments)), [tool])
    except InvalidTools:
        # Of the dialects with bare values, for texts with their own tags only.
        assert name != "llama4" and any(isinstance(value, str) and "</" in value for value in arguments.values())
        return
    [call] = LOADED[name].parse(text, [tool]).calls
    assert (call.name, json.dumps(call.arguments)) == (function, json.dumps(arguments))


def assert_stream_is_parse(dialect: Dialect, text: str, cuts: list[int]) -> None:
    parsed = dialect.parse(text)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    stream = dialect.stream()
    events = [event for at, to in pairwise(places) for event in stream.feed(text[at:to])]
    events += stream.finish()
    assert (*join_events(events), stream.problem) == (parsed.content, parsed.calls, parsed.problem)
    for event in events:
        if isinstance(event, CallFinished):
            deltas = [each.text for each in events if isinstance(each, ArgumentsDelta) and each.index == event.index]
            assert event.call.arguments == json.loads("".join(deltas))
            assert CallStarted(event.index, str(event.call.id), event.call.name) in events


CUTS = st.lists(st.integers(min_value=0, max_value=10**6), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), TEXTS, CUTS)
def test_any_text_is_read_without_an_error_and_streams_as_it_parses(name: str, text: str, cuts: list[int]) -> None:
    assert_stream_is_parse(LOADED[name], text, cuts)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_mutilated_calls_are_read_without_an_error(name: str, data: st.DataObject) -> None:
    dialect = LOADED[name]
    content = "Let me see." if dialect.text_beside_calls else ""
    text = dialect.render_calls(answer(content, WEATHER, *((CLOCK,) if dialect.several_calls else ())))
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
        text = data.draw(
            st.sampled_from([
                text[:start], text[:start] + text[end:], text[:end] + text[start:],
                text[:start] + data.draw(st.text(max_size=2)) + text[start:],
            ])
        )  # fmt: skip
    assert_stream_is_parse(LOADED[name], text, data.draw(CUTS))
