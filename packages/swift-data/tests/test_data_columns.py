"""Raw rows to conversations; the expected messages are written by hand."""

from __future__ import annotations

import json

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
    assert to_row(raw, origin=ORIGIN).conversation.tools == ({"type": "function", "function": {"name": "add"}},)


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


CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

# From ms-swift's documentation, "Agent format".
TOOLS = '[{"type": "function", "function": {"name": "realtime_aqi", "parameters": {"type": "object"}}}]'
AGENT = {
    "tools": TOOLS,
    "messages": [
        {"role": "user", "content": "What is the weather like in Beijing and Shanghai today?"},
        {"role": "tool_call", "content": '{"name": "realtime_aqi", "arguments": {"city": "Beijing"}}'},
        {"role": "tool_call", "content": '{"name": "realtime_aqi", "arguments": {"city": "Shanghai"}}'},
        {"role": "tool_response", "content": '{"city": "Beijing", "aqi": "10"}'},
        {"role": "tool_response", "content": '{"city": "Shanghai", "aqi": "72"}'},
        {"role": "assistant", "content": "10 in Beijing, 72 in Shanghai."},
    ],
}


def test_calls_in_a_row_become_one_message() -> None:
    row = to_row(AGENT, origin=ORIGIN)
    assert row.conversation.tools == tuple(json.loads(TOOLS))
    assert row.conversation.messages[1:4] == (
        Message(
            role="assistant",
            content="",
            tool_calls=(
                ToolCall("realtime_aqi", {"city": "Beijing"}),
                ToolCall("realtime_aqi", {"city": "Shanghai"}),
            ),
        ),
        Message(role="tool", content='{"city": "Beijing", "aqi": "10"}'),
        Message(role="tool", content='{"city": "Shanghai", "aqi": "72"}'),
    )


def test_a_call_joins_the_text_before_it() -> None:
    messages = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": "<think>\nLook.\n</think>\n", "loss": False},
        {"role": "tool_call", "content": '[{"name": "clock", "arguments": "{\\"zone\\": \\"CET\\"}"}]'},
        {"role": "tool", "content": "11:00"},
        {"role": "assistant", "content": "Eleven."},
    ]
    row = to_row({"messages": messages}, origin=ORIGIN)
    assert row.conversation.messages[1] == Message(
        role="assistant",
        content="<think>\nLook.\n</think>\n",
        tool_calls=(ToolCall("clock", {"zone": "CET"}),),
        loss=False,
    )


def test_sharegpts_calls_are_calls_too() -> None:
    turns = [
        {"from": "human", "value": "Time?"},
        {"from": "function_call", "value": '{"name": "clock", "arguments": {}}'},
        {"from": "observation", "value": "11:00"},
        {"from": "gpt", "value": "Eleven."},
    ]
    row = to_row({"conversations": turns, "tools": [{"name": "clock"}]}, origin=ORIGIN)
    assert row.conversation.messages[1:3] == (
        Message(role="assistant", content="", tool_calls=(ToolCall("clock", {}),)),
        Message(role="tool", content="11:00"),
    )


def test_openais_older_call_is_a_call_too() -> None:
    messages = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "function_call": {"name": "clock", "arguments": "{}"}},
        {"role": "function", "name": "clock", "content": "11:00"},
        {"role": "assistant", "content": "Eleven.", "weight": 0},
    ]
    row = to_row({"messages": messages}, origin=ORIGIN)
    assert row.conversation.messages[1].tool_calls == (ToolCall("clock", {}),)
    assert [message.loss for message in row.conversation.messages] == [None, None, None, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("look", "'messages[1].content' is 'look'; expected JSON of a call"),
        ('{"name": "look", "parameters": {}}', "'messages[1].content' lacks 'arguments'"),
        ('{"arguments": {}}', "lacks 'name'"),
        ('{"name": "look", "arguments": "x"}', "'messages[1].content.arguments' is not JSON"),
        ('{"name": "look", "arguments": [1]}', "'messages[1].content.arguments' is [1]; expected an object"),
        ("[1]", "'messages[1].content[0]' is 1; expected an object"),
        (None, "'messages[1].content' is None"),
    ],
)
def test_a_faulty_call_is_a_bad_row(content: str | None, words: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_row({"messages": [CHAT[0], {"role": "tool_call", "content": content}, CHAT[1]]}, origin=ORIGIN)
    assert caught.value.reason in ("invalid value", "missing field")
    assert words in caught.value.problem


def test_a_call_with_another_weight_than_its_text_is_a_bad_row() -> None:
    call = {"role": "tool_call", "content": '{"name": "look", "arguments": {}}', "loss": False}
    with pytest.raises(BadRow, match="give both the same"):
        to_row({"messages": [*CHAT, call]}, origin=ORIGIN)
