"""Tools and calls checked, and whole conversations rewritten without them."""

# tokens of DeepSeek have bars of their own
from __future__ import annotations

import sys

import pytest
from swift_templates.dialect import (
    DIALECTS,
    InvalidTools,
    Tool,
    check_call,
    check_tools,
    load_dialect,
)
from swift_templates.dialect_check import TOOLS
from swift_templates.grounding import Objects
from swift_templates.messages import JSON, Conversation, Media, Message, ToolCall, check_conversation

NAMES = DIALECTS.names()
LOADED = {name: load_dialect(name) for name in NAMES}
WEATHER = ToolCall("get_weather", {"city": "Paris", "days": 3}, "Xq3bA91Zt")
CLOCK = ToolCall("get_time", {}, "call_1")


def answer(content: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=content, tool_calls=calls)


def result(content: str, call_id: str | None = None) -> Message:
    return Message(role="tool", content=content, tool_call_id=call_id)


TALK = Conversation(
    messages=(
        Message(role="system", content="Be brief."),
        Message(role="user", content="And the weather?"),
        Message(role="assistant", content="Thought: ask.", reasoning_content="Hm.", tool_calls=(WEATHER,), loss=True),
        result("21", "Xq3bA91Zt"),
        Message(role="assistant", content="Fine."),
    ),
    tools=TOOLS,
)


def test_a_conversation_becomes_one_without_tools() -> None:
    rewritten = LOADED["react_en"].rewrite(TALK)
    check_conversation(rewritten)
    system, user, called, observed, last = rewritten.messages
    assert system.content == "Be brief.\n\n" + LOADED["react_en"].render_tools(TOOLS)
    assert (user, last) == (TALK.messages[1], TALK.messages[4])
    assert called == Message(
        role="assistant",
        content='Thought: ask.\nAction: get_weather\nAction Input: {"city": "Paris", "days": 3}\nObservation:',
        reasoning_content="Hm.",
        loss=True,
    )
    assert observed == Message(role="user", content="21")
    assert rewritten.tools == ()


def test_results_in_a_row_become_one_message() -> None:
    talk = Conversation(
        messages=(
            Message(role="user", content="Both?"),
            answer("", WEATHER, CLOCK),
            result("21", "Xq3bA91Zt"),
            result("noon", "call_1"),
        )
    )
    rewritten = LOADED["hermes"].rewrite(talk)
    assert [each.role for each in rewritten.messages] == ["user", "assistant", "user"]
    assert rewritten.messages[2].content == (
        "<tool_response>\n21\n</tool_response>\n<tool_response>\nnoon\n</tool_response>"
    )
    with pytest.raises(InvalidTools, match="2 calls"):
        LOADED["react_en"].rewrite(talk)


def test_media_keep_their_places() -> None:
    picture = Media(kind="image", source=b"", at=2)
    system = Message(role="system", content="Be brief.", media=(Media(kind="image", source=b"", at=9),))
    shown = Message(role="tool", content="a b", media=(picture,))
    talk = Conversation(messages=(system, TALK.messages[1], answer("", CLOCK), shown), tools=TOOLS)
    rewritten = LOADED["glm4_5"].rewrite(talk)
    [moved] = rewritten.messages[0].media
    assert rewritten.messages[0].content[: moved.at].endswith("Be brief.")
    content, [moved] = rewritten.messages[3].content, rewritten.messages[3].media
    assert content[moved.at :].startswith("b\n</tool_response>")
    with pytest.raises(InvalidTools, match="media"):
        LOADED["glm4_5"].rewrite(Conversation(messages=(*talk.messages[:3], shown, shown)))


def function(**fields: object) -> Tool:
    return {"type": "function", "function": {"name": "f", **fields}}  # type: ignore[dict-item]  # wrong ones, too


BAD_TOOLS: dict[str, tuple[list[Tool], str]] = {
    "no type": ([{"name": "f"}], "tool 1 is"),
    "another type": ([{"type": "web_search"}], "tool 1 is"),
    "no name": ([{"type": "function", "function": {}}], "has name None"),
    "a name with a space": ([{"type": "function", "function": {"name": "a b"}}], "without white space"),
    "one name twice": ([function(), function()], "tool 2 has the name 'f'"),
    "a number as description": ([function(description=3)], "expected text"),
    "parameters that are a list": ([function(parameters=[])], "expected a JSON Schema of type 'object'"),
    "parameters of a text": ([function(parameters={"type": "string"})], "of type 'object'"),
    "an unknown type": ([function(parameters={"properties": {"a": {"type": "strin"}}})], "strin"),
    "a schema that is a text": ([function(parameters={"properties": {"a": "string"}})], "string"),
    "an object as type": ([function(parameters={"properties": {"a": {"type": {"b": 1}}}})], "type"),
    "required of a text": ([function(parameters={"properties": {}, "required": "a"})], "required|'a'"),
    "what JSON cannot say": ([function(parameters={"x": float("nan")})], "JSON cannot say"),
}

BAD_ARGUMENTS: dict[str, tuple[ToolCall, str]] = {
    "an unknown function": (ToolCall("get_wether", {}), "did you mean 'get_weather'"),
    "a missing argument": (ToolCall("get_weather", {}), "'city'.* required"),
    "another type": (ToolCall("get_weather", {"city": 3}), r"arguments\.city"),
    "a boolean for a number": (ToolCall("get_weather", {"city": "x", "days": True}), r"arguments\.days"),
    "something in a list": (ToolCall("get_weather", {"city": "x", "parts": ["a", 1]}), r"arguments\.parts\[1\]"),
}


@pytest.fixture(params=[True, False], ids=["with jsonschema", "without jsonschema"])
def jsonschema(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with and without the optional package."""
    if request.param:
        pytest.importorskip("jsonschema")
    else:
        monkeypatch.setitem(sys.modules, "jsonschema", None)


@pytest.mark.usefixtures("jsonschema")
@pytest.mark.parametrize(("tools", "message"), BAD_TOOLS.values(), ids=BAD_TOOLS)
def test_wrong_tools_are_refused(tools: list[Tool], message: str) -> None:
    with pytest.raises(InvalidTools, match=message):
        check_tools(tools)


@pytest.mark.usefixtures("jsonschema")
def test_what_was_said_of_a_schema_before_is_not_said_of_another() -> None:
    def told(kind: JSON) -> list[Tool]:
        return [function(parameters={"type": "object", "properties": {"n": {"type": kind}}})]

    check_tools(told("integer"))
    for _ in range(2):
        with pytest.raises(InvalidTools, match="tool 1"):
            check_tools(told("whole"))
    check_tools(told("integer"))


@pytest.mark.usefixtures("jsonschema")
@pytest.mark.parametrize(("call", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_wrong_arguments_are_refused(call: ToolCall, message: str) -> None:
    with pytest.raises(InvalidTools, match=message):
        check_call(call, TOOLS)


@pytest.mark.usefixtures("jsonschema")
def test_right_tools_and_arguments_pass() -> None:
    check_tools([])
    check_tools([*TOOLS, function(parameters={}), {"type": "function", "function": {"name": "g", "strict": True}}])
    check_call(ToolCall("get_weather", {"city": "x", "days": 2.0, "note": None, "parts": [], "other": 1}), TOOLS)
    check_call(ToolCall("get_time", {"anything": 1}), TOOLS)
    closed = function(parameters={"properties": {"unit": {"enum": ["c", "f"]}}, "additionalProperties": False})
    check_call(ToolCall("f", {"unit": "c"}), [closed])
    for arguments in ({"unit": "k"}, {"unti": "c"}):
        with pytest.raises(InvalidTools, match=r"unit|unti"):
            check_call(ToolCall("f", {**arguments}), [closed])


def test_a_schema_that_refers_elsewhere_is_not_fetched() -> None:
    pytest.importorskip("jsonschema")
    remote = function(parameters={"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}})
    with pytest.raises(InvalidTools, match="refers to"):
        check_call(ToolCall("f", {"a": 1}), [remote])
    inside = function(parameters={"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}})
    check_call(ToolCall("f", {"a": 1}), [inside])
    with pytest.raises(InvalidTools, match=r"arguments\.a"):
        check_call(ToolCall("f", {"a": "x"}), [inside])


@pytest.mark.parametrize("schema", [{"allOf": [{"$ref": "#"}]}, {"properties": {"a": {"pattern": "("}}}], ids=str)
def test_a_schema_that_cannot_be_checked_against_is_an_error_too(schema: dict[str, JSON]) -> None:
    pytest.importorskip("jsonschema")
    with pytest.raises(InvalidTools, match=r"cannot be checked|no JSON Schema"):
        check_call(ToolCall("f", {"a": "x"}), [function(parameters=schema)])


@pytest.mark.parametrize("name", NAMES)
def test_boxes_of_a_conversation_survive(name: str) -> None:
    objects = Objects(refs=("dog",), boxes=((1.0, 2.0, 3.0, 4.0),))
    talk = Conversation(
        messages=(Message(role="user", content="<ref-object>"), Message(role="assistant", content="<bbox>")),
        tools=TOOLS,
        objects=objects,
    )
    rewritten = LOADED[name].rewrite(talk)
    assert rewritten.objects == objects and rewritten.tools == ()
