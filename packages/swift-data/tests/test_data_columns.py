"""Raw rows to conversations; the expected messages are written by hand."""

from __future__ import annotations

import pytest
from swift_data.chat_row import to_row
from swift_data.errors import BadRow
from swift_data.source import Origin
from swift_templates.messages import JSON, Conversation, Message, ToolCall

ORIGIN = Origin("rows.jsonl", 3)

PLAIN = (Message(role="user", content="What is 2 + 2?"), Message(role="assistant", content="4"))
LONG = (
    Message(role="system", content="Answer in one word."),
    Message(role="user", content="Capital of France?"),
    Message(role="assistant", content="Paris"),
    Message(role="user", content="And of Spain?"),
    Message(role="assistant", content="Madrid"),
)


@pytest.mark.parametrize(
    ("raw", "messages"),
    [
        pytest.param(
            {"messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]},
            PLAIN,
            id="messages",
        ),
        pytest.param({"query": "What is 2 + 2?", "response": "4"}, PLAIN, id="query and response"),
        pytest.param({"prompt": "What is 2 + 2?", "completion": "4"}, PLAIN, id="prompt and completion"),
        pytest.param({"prompt": "What is 2 + 2?", "response": "4"}, PLAIN, id="prompt and response"),
        pytest.param({"question": "What is 2 + 2?", "answer": "4"}, PLAIN, id="question and answer"),
        pytest.param({"instruction": "What is 2 + 2?", "output": "4"}, PLAIN, id="instruction and output"),
        pytest.param({"instruction": "What is 2 + 2?", "input": "", "output": "4"}, PLAIN, id="alpaca, empty input"),
        pytest.param({"instruction": "What is 2 + 2?", "input": None, "output": "4"}, PLAIN, id="alpaca, null input"),
        pytest.param(
            {"instruction": "Translate.", "input": "Good morning", "output": "Bonjour"},
            (Message(role="user", content="Translate.\nGood morning"), Message(role="assistant", content="Bonjour")),
            id="alpaca",
        ),
        pytest.param(
            {"conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}]},
            PLAIN,
            id="sharegpt",
        ),
        pytest.param(
            {
                "query": "And of Spain?",
                "response": "Madrid",
                "history": [["Capital of France?", "Paris"]],
                "system": "Answer in one word.",
            },
            LONG,
            id="history and system",
        ),
        pytest.param(
            {
                "conversation": [
                    {"from": "user", "value": "Capital of France?"},
                    {"from": "assistant", "value": "Paris"},
                    {"from": "human", "value": "And of Spain?"},
                    {"from": "gpt", "value": "Madrid"},
                ],
                "system": "Answer in one word.",
            },
            LONG,
            id="sharegpt with a system column",
        ),
        pytest.param(
            {
                "messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}],
                "system": "Be brief.",
            },
            (Message(role="system", content="Be brief."), *PLAIN),
            id="messages with a system column",
        ),
        pytest.param(
            {
                "conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}],
                "system": "",
            },
            PLAIN,
            id="sharegpt with an empty system column",
        ),
        pytest.param(
            {"query": "What is 2 + 2?", "response": "4", "history": [], "system": "", "messages": None, "extra": [1]},
            PLAIN,
            id="empty, null and unknown columns don't matter",
        ),
        pytest.param(
            {"query": "What is 2 + 2?", "response": "4", "images": [], "audios": None},
            PLAIN,
            id="no pictures",
        ),
    ],
)
def test_a_row_becomes_its_conversation(raw: dict[str, object], messages: tuple[Message, ...]) -> None:
    row = to_row(raw, origin=ORIGIN)
    assert row.conversation == Conversation(messages=messages)
    assert row.origin == ORIGIN
    assert row.solution is None


def test_a_message_keeps_what_it_says_about_itself() -> None:
    tool: dict[str, JSON] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
    raw = {
        "tools": [tool],
        "messages": [
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": None, "tool_calls": [call], "loss": False},
            {"role": "tool", "content": "4", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Four.", "reasoning_content": "The tool said 4.", "loss_scale": 2},
        ],
    }
    assert to_row(raw, origin=ORIGIN).conversation == Conversation(
        messages=(
            Message(role="user", content="2 + 2?"),
            Message(
                role="assistant",
                content="",
                tool_calls=(ToolCall(name="add", arguments={"a": 2, "b": 2}, id="c1"),),
                loss=False,
            ),
            Message(role="tool", content="4", tool_call_id="c1"),
            Message(role="assistant", content="Four.", reasoning_content="The tool said 4.", loss_scale=2.0),
        ),
        tools=(tool,),
    )


def test_tools_may_be_json_in_a_text() -> None:
    raw = {"query": "2 + 2?", "response": "4", "tools": '[{"name": "add"}]'}
    assert to_row(raw, origin=ORIGIN).conversation.tools == ({"name": "add"},)


def test_columns_are_renamed_first() -> None:
    raw = {"ask": "What is 2 + 2?", "reply": "4", "response": None}
    row = to_row(raw, origin=ORIGIN, columns={"ask": "query", "reply": "response", "absent": "system"})
    assert row.conversation.messages == PLAIN


def test_renaming_puts_a_column_out_of_the_way() -> None:
    raw = {"query": "What is 2 + 2?", "response": "4", "prompt": "x", "completion": "y"}
    assert to_row(raw, origin=ORIGIN, columns={"prompt": "unused"}).conversation.messages == PLAIN


def test_a_solution_is_kept() -> None:
    row = to_row({"query": "What is 2 + 2?", "response": "It is 4.", "solution": "4"}, origin=ORIGIN)
    assert row.solution == "4"


@pytest.mark.parametrize(
    ("raw", "roles"),
    [
        ({"query": "2 + 2?"}, ["user"]),
        ({"prompt": "2 + 2?", "response": None}, ["user"]),
        ({"instruction": "Add.", "input": "2 and 2"}, ["user"]),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
            ["system", "user"],
        ),
        ({"query": "2 + 2?", "response": "4"}, ["user", "assistant"]),
    ],
)
def test_a_row_to_be_asked_needs_no_answer(raw: dict[str, object], roles: list[str]) -> None:
    row = to_row(raw, origin=ORIGIN, answers="optional")
    assert [message.role for message in row.conversation.messages] == roles
    if roles[-1] == "user":
        with pytest.raises(BadRow):
            to_row(raw, origin=ORIGIN)


def test_an_empty_answer_is_refused_where_answers_are_optional_too() -> None:
    with pytest.raises(BadRow) as caught:
        to_row({"query": "2 + 2?", "response": ""}, origin=ORIGIN, answers="optional")
    assert caught.value.reason == "empty answer"
