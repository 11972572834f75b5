"""The formats that users bring, word for word: of ms-swift, TRL, LLaMA-Factory and OpenAI."""

from __future__ import annotations

import json
import pickle

import pytest
from swift_data.chat_row import ChatRow, to_row
from swift_data.column_format import Answers
from swift_data.errors import BadRow, Reason
from swift_data.source import Origin
from swift_templates.messages import Conversation, Message

ORIGIN = Origin("rows.jsonl", 3)
SKY = Message(role="user", content="What color is the sky?")
BLUE = Message(role="assistant", content="It is blue.")
GREEN = Message(role="assistant", content="It is green.")


def said(row: ChatRow) -> list[tuple[str, str]]:
    """Return who said what."""
    return [(message.role, message.content) for message in row.conversation.messages]


# What ms-swift's documentation of August 2024 lists as its formats.
DOCUMENTED = [
    pytest.param('{"response": "11111"}', [("assistant", "11111")], id="1, pre-training"),
    pytest.param(
        '{"system": "00000", "query": "11111", "response": "22222"}',
        [("system", "00000"), ("user", "11111"), ("assistant", "22222")],
        id="1, one turn",
    ),
    pytest.param(
        '{"system": "00001", "query": "EEEEE", "response": "FFFFF", '
        '"history": [["query1", "response1"], ["query2", "response2"]]}',
        [
            ("system", "00001"),
            ("user", "query1"),
            ("assistant", "response1"),
            ("user", "query2"),
            ("assistant", "response2"),
            ("user", "EEEEE"),
            ("assistant", "FFFFF"),
        ],
        id="1, several turns",
    ),
    pytest.param(
        '{"query": "eeeee", "response": "fffff", "history": []}',
        [("user", "eeeee"), ("assistant", "fffff")],
        id="1, no history",
    ),
    pytest.param(
        '{"conversations": [{"from": "system", "value": "00000"}, {"from": "user", "value": "11111"}, '
        '{"from": "assistant", "value": "22222"}]}',
        [("system", "00000"), ("user", "11111"), ("assistant", "22222")],
        id="2, conversations",
    ),
    pytest.param(
        '{"messages": [{"role": "user", "content": "aaaaa"}, {"role": "assistant", "content": "bbbbb"}, '
        '{"role": "user", "content": "ccccc"}, {"role": "assistant", "content": "ddddd"}]}',
        [("user", "aaaaa"), ("assistant", "bbbbb"), ("user", "ccccc"), ("assistant", "ddddd")],
        id="3, messages",
    ),
    pytest.param(
        '{"system": "00001", "conversation": [{"human": "AAAAA", "assistant": "BBBBB"}, '
        '{"human": "CCCCC", "assistant": "DDDDD"}]}',
        [("system", "00001"), ("user", "AAAAA"), ("assistant", "BBBBB"), ("user", "CCCCC"), ("assistant", "DDDDD")],
        id="4, pairs",
    ),
    pytest.param(
        '{"system": "00000", "instruction": "11111", "input": "22222", "output": "33333"}',
        [("system", "00000"), ("user", "11111\n22222"), ("assistant", "33333")],
        id="5, Alpaca",
    ),
    pytest.param('{"text": "11111"}', [("assistant", "11111")], id="6, text"),
]


@pytest.mark.parametrize(("line", "expected"), DOCUMENTED)
def test_documented_formats_are_read_word_for_word(line: str, expected: list[tuple[str, str]]) -> None:
    assert said(to_row(json.loads(line), origin=ORIGIN)) == expected


def test_a_text_may_have_other_columns_and_messages_may_be_one_text() -> None:
    row = to_row({"text": "The sky is blue.", "url": "https://example.org", "id": 7}, origin=ORIGIN)
    assert said(row) == [("assistant", "The sky is blue.")]
    assert row.extras == {"url": "https://example.org", "id": 7}
    row = to_row({"messages": [{"role": "assistant", "content": "I love music", "loss_scale": 2}]}, origin=ORIGIN)
    assert said(row) == [("assistant", "I love music")]
    assert row.conversation.messages[0].loss_scale == 2.0


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        # A question under a name that nothing knows must not be lost.
        ({"qurey": "2 + 2?", "response": "4"}, "missing field", "lacks 'instruction' or 'prompt' or 'query' or"),
        ({"prompt": "Once", "text": "Once there was a lamp."}, "missing field", "lacks 'completion' or 'response' ("),
        ({"text": ""}, "empty answer", "'text' is ''"),
        ({"text": ["a"]}, "not text", "'text' is a list"),
        ({"text": "a", "query": "x", "response": "y", "messages": []}, "ambiguous columns", "'query + response'"),
    ],
)
def test_text_is_only_what_is_left(raw: dict[str, object], reason: Reason, words: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_row(raw, origin=ORIGIN)
    assert caught.value.reason == reason
    assert words in caught.value.problem


def test_a_text_column_beside_another_format_is_not_trained_on() -> None:
    row = to_row({"instruction": "Add.", "input": "", "output": "4", "text": "Add. 4"}, origin=ORIGIN)
    assert said(row) == [("user", "Add."), ("assistant", "4")]
    assert row.extras == {"text": "Add. 4"}


# TRL's documentation, "Dataset formats and types".
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            {"prompt": "What color is the sky?", "chosen": "It is blue.", "rejected": "It is green."}, id="texts"
        ),
        pytest.param(
            {
                "prompt": [{"role": "user", "content": "What color is the sky?"}],
                "chosen": [{"role": "assistant", "content": "It is blue."}],
                "rejected": [{"role": "assistant", "content": "It is green."}],
            },
            id="messages",
        ),
        pytest.param(
            {
                "chosen": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is blue."},
                ],
                "rejected": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is green."},
                ],
            },
            id="implicit prompt",
        ),
        pytest.param(
            {
                "prompt": "What color is the sky?",
                "messages": [{"role": "user", "content": "What color is the sky?"}],
                "chosen": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is blue."},
                ],
                "rejected": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is green."},
                ],
            },
            id="as UltraFeedback has it",
        ),
        pytest.param(
            {
                "conversations": [{"from": "human", "value": "What color is the sky?"}],
                "chosen": {"from": "gpt", "value": "It is blue."},
                "rejected": {"from": "gpt", "value": "It is green."},
            },
            id="LLaMA-Factory",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is blue."},
                ],
                "rejected_response": "It is green.",
            },
            id="rejected_response",
        ),
        pytest.param(
            {"query": "What color is the sky?", "response": "It is blue.", "rejected_response": "It is green."},
            id="rejected_response beside columns",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is blue."},
                ],
                "rejected_messages": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is green."},
                ],
            },
            id="rejected_messages",
        ),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": "What color is the sky?"},
                    {"role": "assistant", "content": "It is blue."},
                ],
                "rejected_messages": [{"role": "assistant", "content": "It is green."}],
            },
            id="rejected_messages, the answer only",
        ),
    ],
)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_pair_shares_its_prompt(raw: dict[str, object], system: str | None) -> None:
    row = to_row({**raw, "system": system}, origin=ORIGIN)
    before = (Message(role="system", content="Be brief."),) if system else ()
    assert row.conversation.messages == (*before, SKY, BLUE)
    assert row.rejected == (GREEN,)
    assert row.num_shared == len(before) + 1
    assert row.rejected_conversation == Conversation(messages=(*before, SKY, GREEN))
    assert row.extras == {}


def test_a_pair_may_part_long_before_its_end() -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]

    row = to_row({"chosen": turns("a", "b", "c", "d"), "rejected": turns("a", "x", "c", "d")}, origin=ORIGIN)
    assert row.num_shared == 1
    assert [message.content for message in row.rejected] == ["x", "c", "d"]


def test_two_texts_without_a_prompt_go_on_from_nothing() -> None:
    row = to_row({"chosen": "The sky is blue.", "rejected": "The sky is green."}, origin=ORIGIN)
    assert said(row) == [("assistant", "The sky is blue.")]
    assert (row.rejected, row.num_shared) == ((Message(role="assistant", content="The sky is green."),), 0)


def test_a_pairs_rejected_answer_follows_calls_and_results() -> None:
    call = {"role": "tool_call", "content": '{"name": "look", "arguments": {}}'}
    result = {"role": "tool_response", "content": "blue"}
    messages = [{"role": "user", "content": "Colour?"}, call, result, {"role": "assistant", "content": "Blue."}]
    row = to_row({"messages": messages, "rejected_response": "Green."}, origin=ORIGIN)
    assert row.num_shared == 3
    assert row.rejected == (Message(role="assistant", content="Green."),)


CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        ({"messages": CHAT, "rejected_response": ""}, "empty answer", "'rejected_response'"),
        ({"messages": CHAT, "rejected_response": ["c"]}, "not text", "'rejected_response'"),
        ({"messages": CHAT, "rejected_response": "b"}, "invalid value", "the same"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "invalid value", "the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty answer", "'rejected'"),
        ({"prompt": "a", "chosen": "b"}, "missing field", "lacks"),
        ({"prompt": "a", "query": "c", "chosen": "b", "rejected": "d"}, "ambiguous columns", "'prompt', 'query'"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "d", "rejected_response": "c"},
            "ambiguous columns",
            "a rejected answer beside it",
        ),
        (
            {"messages": CHAT, "rejected_response": "c", "rejected_messages": CHAT},
            "ambiguous columns",
            "'rejected_response', 'rejected_messages'",
        ),
        (
            {"messages": CHAT, "rejected_messages": [{"role": "user", "content": "x"}, CHAT[1]]},
            "invalid value",
            "the same prompt in both",
        ),
        ({"messages": CHAT, "rejected_messages": CHAT[:1]}, "invalid value", "a part of it"),
        (
            {"messages": CHAT, "rejected_response": "c", "rejected_images": ["a.png"]},
            "not supported yet",
            "'rejected_images'",
        ),
        (
            {"chosen": [*CHAT, {"role": "user", "content": "c"}, CHAT[1]], "rejected": [*CHAT, {**CHAT[0]}, CHAT[1]]},
            "invalid value",
            "from 'user' (message 3)",
        ),
    ],
)
def test_a_faulty_pair_is_a_bad_row(raw: dict[str, object], reason: Reason, words: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_row(raw, origin=ORIGIN)
    assert caught.value.reason == reason
    assert words in caught.value.problem


@pytest.mark.parametrize(
    ("label", "expected"),
    [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False), ("1", True), ("0", False)],
)
def test_a_label_says_whether_an_answer_is_good(label: object, expected: bool) -> None:
    row = to_row({"prompt": "2 + 2?", "completion": "4", "label": label}, origin=ORIGIN)
    assert row.label is expected
    assert row.extras == {}


@pytest.mark.parametrize("label", [2, -1, 0.5, "physics", [1, 3], ""])
def test_another_label_is_kept_as_it_is(label: object) -> None:
    row = to_row({"prompt": "2 + 2?", "completion": "4", "label": label}, origin=ORIGIN)
    assert row.label is None
    assert row.extras == {"label": label}


def test_a_label_goes_with_conversations_of_messages() -> None:
    row = to_row(
        {"prompt": [{"role": "user", "content": "2 + 2?"}], "completion": [CHAT[1]], "label": False}, origin=ORIGIN
    )
    assert said(row) == [("user", "2 + 2?"), ("assistant", "b")]
    assert row.label is False


@pytest.mark.parametrize(
    ("raw", "extras"),
    [
        ({"query": "2 + 2?", "solution": "4"}, {}),
        ({"problem": "2 + 2?", "solution": "4", "level": 3}, {"level": 3}),
        ({"prompt": [{"role": "user", "content": "2 + 2?"}], "solution": "4", "nums": [2, 2]}, {"nums": [2, 2]}),
        (
            {"messages": [{"role": "user", "content": "2 + 2?"}], "solution": "4", "meta": {"a": None}},
            {"meta": {"a": None}},
        ),
    ],
)
def test_a_question_keeps_what_rewards_look_at(raw: dict[str, object], extras: dict[str, object]) -> None:
    row = to_row(raw, origin=ORIGIN, answers="optional")
    assert said(row) == [("user", "2 + 2?")]
    assert row.solution == "4"
    assert row.extras == extras


def test_a_channel_is_kept() -> None:
    assert to_row({"messages": CHAT, "channel": "math"}, origin=ORIGIN).channel == "math"
    assert to_row({"messages": CHAT, "channel": 3}, origin=ORIGIN).channel == "3"


def test_a_column_can_be_left_out() -> None:
    row = to_row(
        {"messages": CHAT, "query": "x", "response": "y"}, origin=ORIGIN, columns={"query": "_", "response": "_"}
    )
    assert row.extras == {}


def test_a_row_can_be_sent_to_another_process() -> None:
    row = to_row({"messages": CHAT, "rejected_response": "c", "label": 1, "more": [1]}, origin=ORIGIN)
    assert pickle.loads(pickle.dumps(row)) == row


@pytest.mark.parametrize(
    "tools", ['[{"name": "add"}]', [{"name": "add"}], ['{"name": "add"}'], '["{\\"name\\": \\"add\\"}"]']
)
def test_tools_are_a_list_or_json_of_one(tools: object) -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    assert to_row({"messages": CHAT, "tools": tools}, origin=ORIGIN).conversation.tools == (tool,)


@pytest.mark.parametrize("tools", [None, "", " ", "[]", [], "null"])
def test_no_tools_are_no_fault(tools: object) -> None:
    assert to_row({"messages": CHAT, "tools": tools}, origin=ORIGIN).conversation.tools == ()


@pytest.mark.parametrize(
    "raw",
    [
        {"messages": json.dumps(CHAT)},
        {"conversations": '[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]'},
        {"conversations": CHAT},
        {"query": "a", "response": "b", "history": "[]"},
    ],
)
def test_lists_may_be_json_in_a_text_as_tables_have_them(raw: dict[str, object]) -> None:
    assert said(to_row(raw, origin=ORIGIN)) == [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_have_several_names(name: str) -> None:
    row = to_row({"messages": [CHAT[0], {**CHAT[1], name: "Hm."}]}, origin=ORIGIN)
    assert row.conversation.messages[1].reasoning_content == "Hm."


def test_a_developers_message_is_the_system_prompt() -> None:
    row = to_row({"messages": [{"role": "developer", "content": "Be brief."}, *CHAT]}, origin=ORIGIN)
    assert said(row)[0] == ("system", "Be brief.")


def test_null_fields_of_a_table_count_as_missing() -> None:
    # A table gives each message every field that one of them has.
    empty = dict.fromkeys(("tool_calls", "tool_call_id", "loss", "loss_scale", "reasoning_content", "name"))
    row = to_row({"messages": [{**each, **empty} for each in CHAT]}, origin=ORIGIN)
    assert row == to_row({"messages": CHAT}, origin=ORIGIN)


@pytest.mark.parametrize("answers", ["required", "optional"])
def test_more_than_one_pair_of_columns_is_refused(answers: Answers) -> None:
    with pytest.raises(BadRow) as caught:
        to_row({"question": "a", "answer": "b", "response": "c"}, origin=ORIGIN, answers=answers)
    assert caught.value.reason == "ambiguous columns"
