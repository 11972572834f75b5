"""What a conversation may look like, and what is said of one that may not."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from swift_templates.errors import InvalidConversation
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
