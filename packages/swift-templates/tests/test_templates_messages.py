"""What a conversation may look like, and what is said of one that may not."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from swift_templates.errors import InvalidConversation
from swift_templates.grounding import Objects
from swift_templates.messages import Conversation, Message, ToolCall, check_conversation

USER = Message(role="user", content="Hello")
ANSWER = Message(role="assistant", content="Hi.")
SYSTEM = Message(role="system", content="Be brief.")
CALL = Message(role="assistant", content="", tool_calls=(ToolCall("weather", {"city": "Paris"}),))
RESULT = Message(role="tool", content="22 degrees")


def assistant(**fields: object) -> Message:
    return dataclasses.replace(ANSWER, **fields)  # type: ignore[arg-type]  # a table of fields, wrong ones on purpose


@pytest.mark.parametrize(
    "messages",
    [
        (USER, ANSWER),
        (SYSTEM, USER, ANSWER, USER, ANSWER),
        (USER, CALL, RESULT, RESULT, ANSWER),
        (USER, ANSWER, RESULT, ANSWER),
        (USER, CALL),
        (USER, assistant(loss=False, loss_scale=0.0)),
        (Message(role="user", content=""), ANSWER),
    ],
    ids=["one round", "system", "tools", "tools written in text", "ends with a call", "untrained", "empty question"],
)
def test_a_conversation_in_order_is_accepted(messages: tuple[Message, ...]) -> None:
    check_conversation(Conversation(messages=messages))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((), "no messages"),
        ((ANSWER, USER, ANSWER), "message 1 is from 'assistant'; expected 'system' or 'user' first"),
        ((USER, SYSTEM, ANSWER), "message 2 is from 'system'; expected it first"),
        ((USER, USER, ANSWER), "message 2 is from 'user' after 'user'; expected 'assistant'"),
        ((USER, ANSWER, ANSWER), "message 3 is from 'assistant' after 'assistant'; expected 'user' or 'tool'"),
        ((USER, RESULT, ANSWER), "message 2 is from 'tool' after 'user'"),
        ((SYSTEM, ANSWER), "message 2 is from 'assistant' after 'system'; expected 'user'"),
        ((USER, CALL, USER, ANSWER), "message 3 is from 'user' after a tool call; expected the result"),
        ((USER, assistant(content=" \n")), "message 2 .assistant. is empty"),
        ((USER, assistant(content="", reasoning_content="Well.")), "message 2 .assistant. is empty"),
        ((USER,), "must end with an answer from 'assistant'"),
        ((Message(role="bot", content="x"), ANSWER), "message 1 has role 'bot'; expected one of 'system', 'user'"),  # type: ignore[arg-type]  # on purpose
        ((Message(role="user", content=["x"]), ANSWER), r"message 1 .user.: content is list \['x'\]; expected text"),  # type: ignore[arg-type]  # on purpose
        ((Message(role="user", content=None), ANSWER), "content is NoneType None; expected text"),  # type: ignore[arg-type]  # on purpose
        ((USER, assistant(reasoning_content=3)), "message 2 .assistant.: reasoning_content is int 3"),
        ((Message(role="user", content="a\ud800"), ANSWER), "half of a surrogate pair .* at character 1"),
        ((Message(role="user", content="x", loss=True), ANSWER), "message 1 .user. has loss; only 'assistant'"),
        ((Message(role="user", content="x", tool_calls=(ToolCall("f", {}),)), ANSWER), "has tool_calls"),
        ((USER, assistant(loss_scale=-1.0)), "loss_scale is -1.0; expected 0, or 1e-06 to 1e"),
        ((USER, assistant(loss_scale=float("nan"))), "loss_scale is nan"),
        ((USER, assistant(loss_scale=float("inf"))), "loss_scale is inf"),
    ],
)
def test_a_conversation_out_of_order_is_refused_by_position(messages: tuple[Message, ...], said: str) -> None:
    with pytest.raises(InvalidConversation, match=said):
        check_conversation(Conversation(messages=messages))


@pytest.mark.parametrize("messages", [(USER,), (USER, CALL, RESULT)], ids=["user", "tool"])
def test_a_prompt_ends_with_a_question_or_a_result(messages: tuple[Message, ...]) -> None:
    check_conversation(Conversation(messages=messages), prompt=True)


def test_a_prompt_that_ends_with_an_answer_is_refused() -> None:
    with pytest.raises(InvalidConversation, match=r"message 2 \(the last\) is from 'assistant'; to be answered"):
        check_conversation(Conversation(messages=(USER, ANSWER)), prompt=True)


def test_errors_survive_pickling() -> None:
    # Worker processes send errors back by pickle.
    with pytest.raises(InvalidConversation) as caught:
        check_conversation(Conversation(messages=()))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def calls(arguments: object, name: object = "f", call_id: object = None) -> Message:
    return assistant(content="", tool_calls=(ToolCall(name, arguments, call_id),))  # type: ignore[arg-type]  # wrong on purpose


DEEP: list[object] = []
for _ in range(2000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (calls('{"a": 1}'), r"call 1: arguments are str '.*'; expected a JSON object"),
        (calls({"a": {1}}), "call 1: arguments hold set"),
        (calls({"a": (1,)}), "call 1: arguments hold tuple"),
        (calls({"a": [float("nan")]}), "call 1: arguments hold nan, which JSON cannot say"),
        (calls({"a": float("-inf")}), "call 1: arguments hold -inf"),
        (calls({1: 2}), "call 1: arguments: a key is int 1; expected text"),
        (calls({"a": ["x\ud800"]}), "call 1: arguments has half of a surrogate pair"),
        (calls({"\ud800": 1}), "call 1: arguments: a key has half of a surrogate pair"),
        (calls({"a": DEEP}), "nested deeper than 100 levels"),
        (calls({"a": 1 << 5000}), "a number of 5001 bits"),
        (calls({}, name="f\udc00"), "call 1: name has half of a surrogate pair"),
        (calls({}, name=None), "call 1: name is NoneType None"),
        (calls({}, call_id=5), "call 1: id is int 5; expected text"),
        (assistant(tool_calls=({"name": "f"},)), "call 1 is dict .*; expected a ToolCall"),
        (assistant(loss_scale="2"), "loss_scale is '2'; expected 0"),
        (assistant(loss_scale=True), "loss_scale is True"),
        (assistant(loss="no"), "loss is 'no'; expected true, false or nothing"),
    ],
)
def test_what_is_no_json_is_refused_by_place(message: Message, said: str) -> None:
    with pytest.raises(InvalidConversation, match=said):
        check_conversation(Conversation(messages=(USER, message)))


@pytest.mark.parametrize("tool", ["f", {"name": "x\ud800"}, {"a": float("inf")}, {"a": {1}}])
def test_tools_that_are_no_json_are_refused(tool: object) -> None:
    with pytest.raises(InvalidConversation, match=r"tool 1 (is str|has half|hold)"):
        check_conversation(Conversation(messages=(USER, ANSWER), tools=(tool,)))  # type: ignore[arg-type]  # on purpose


def test_names_of_objects_are_valid_unicode() -> None:
    with pytest.raises(InvalidConversation, match="name 2 of objects has half of a surrogate pair"):
        check_conversation(Conversation(messages=(USER, ANSWER), objects=Objects(refs=("dog", "\ud800"))))


def test_json_of_every_kind_is_accepted() -> None:
    value: dict[str, Any] = {"a": [1, -2.5, True, None, "é", {"b": []}], "": {}}
    tool: dict[str, Any] = {"type": "x", "function": value}
    check_conversation(Conversation(messages=(USER, calls(value, call_id="1")), tools=(tool,)))


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        (assistant(reasoning_content="Well."), {}, "reasoning_content"),
        (ANSWER, {"tools": ({"type": "function"},)}, "tools"),
        (ANSWER, {"objects": Objects(refs=("dog",))}, "objects"),
    ],
)
def test_a_plain_text_has_no_place_for_more(text: Message, fields: dict[str, Any], said: str) -> None:
    check_conversation(Conversation(messages=(ANSWER,)))
    with pytest.raises(InvalidConversation, match=f"plain text, and there is {said}"):
        check_conversation(Conversation(messages=(text,), **fields))
