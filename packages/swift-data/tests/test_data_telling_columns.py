"""Columns and keys that change what a row means: read under every name, or named; none vanishes in silence."""

from __future__ import annotations

import logging

import pytest
from swift_data.chat_row import to_row
from swift_data.errors import BadRow, Reason
from swift_data.source import Origin
from swift_templates.messages import Message, ToolCall

ORIGIN = Origin("rows.jsonl", 3)
ASK: dict[str, object] = {"role": "user", "content": "2 + 2?"}
SAY: dict[str, object] = {"role": "assistant", "content": "4"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
BE_BRIEF = Message(role="system", content="Be brief.")


@pytest.mark.parametrize("name", ["input", "context"])
def test_what_an_instruction_applies_to_is_part_of_the_question(name: str) -> None:
    raw = {"instruction": "Translate.", name: "Good morning", "response": "Bonjour"}
    question = to_row(raw, origin=ORIGIN).conversation.messages[0]
    assert question.content == "Translate.\nGood morning"


def test_other_names_of_columns_are_read() -> None:
    raw = {"messages": [ASK, SAY], "system_prompt": "Be brief.", "functions": [ADD["function"]], "kto_tag": False}
    row = to_row(raw, origin=ORIGIN)
    assert row.conversation.messages[0] == BE_BRIEF
    assert row.conversation.tools == (ADD,)
    assert row.label is False
    assert row.extras == {}


@pytest.mark.parametrize(
    ("name", "alias", "value"),
    [("system", "system_prompt", "x"), ("tools", "functions", [ADD]), ("label", "kto_tag", True)],
)
def test_a_column_under_both_its_names_is_a_bad_row(name: str, alias: str, value: object) -> None:
    with pytest.raises(BadRow, match=f"'{name}', '{alias}', which mean the same"):
        to_row({"messages": [ASK, SAY], name: value, alias: value}, origin=ORIGIN)


@pytest.mark.parametrize("key", ["train", "training", "loss"])
def test_axolotls_flags_say_what_is_trained_on(key: str) -> None:
    messages = [{**ASK, key: False}, {**SAY, key: False}, ASK, {**SAY, key: True}, ASK, {**SAY, key: None}]
    row = to_row({"messages": messages}, origin=ORIGIN)
    assert [each.loss for each in row.conversation.messages] == [None, False, None, True, None, None]


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"train_detail": [{"begin_offset": 0, "end_offset": 1}]}, "not supported yet", "'train_detail'"),
        ({"tools": [ADD]}, "not supported yet", "give the row a column 'tools'"),
        ({"train": 2}, "invalid value", "'messages[1].train' is 2"),
        ({"train": True, "loss": False}, "ambiguous columns", "contradict each other"),
    ],
)
def test_keys_of_a_turn_that_cannot_be_followed_make_a_bad_row(
    more: dict[str, object], reason: Reason, words: str
) -> None:
    with pytest.raises(BadRow) as caught:
        to_row({"messages": [ASK, {**SAY, **more}]}, origin=ORIGIN)
    assert caught.value.reason == reason
    assert words in caught.value.problem


def test_unread_columns_are_named_once_for_each_file(caplog: pytest.LogCaptureFixture) -> None:
    row = {"query": "x", "response": "y", "id": 1, "context": "z"}
    with caplog.at_level(logging.INFO):
        for line in range(3):
            to_row(row, origin=Origin("unread_a.jsonl", line))
        to_row({**row, "source": "web"}, origin=Origin("unread_a.jsonl", 4))
        to_row(row, origin=Origin("unread_b.jsonl", 1))
    said = [(record.levelname, record.getMessage().split(" are ")[0]) for record in caplog.records]
    assert said == [
        ("WARNING", "unread_a.jsonl: the columns 'context'"),
        ("INFO", "unread_a.jsonl: the columns 'id'"),
        ("INFO", "unread_a.jsonl: the columns 'source'"),
        ("WARNING", "unread_b.jsonl: the columns 'context'"),
        ("INFO", "unread_b.jsonl: the columns 'id'"),
    ]


SYSTEM: dict[str, object] = {"role": "system", "content": "Be brief."}
PAIR: dict[str, object] = {"chosen": [ASK, SAY], "rejected": [ASK, {**SAY, "content": "5"}]}


@pytest.mark.parametrize("prompt", [[SYSTEM, ASK], [SYSTEM], [SYSTEM, ASK, SAY]])
def test_a_prompts_system_message_goes_before_whole_conversations(prompt: list[object]) -> None:
    row = to_row({"prompt": prompt, **PAIR}, origin=ORIGIN)
    assert [each.role for each in row.conversation.messages] == ["system", "user", "assistant"]
    assert row.conversation.messages[0] == BE_BRIEF
    assert row.num_shared == 2
    assert row.rejected == (Message(role="assistant", content="5"),)


@pytest.mark.parametrize("prompt", ["2 + 2?", " 2  + 2?\n", "User: 2 + 2?\nAssistant:", [ASK], [ASK, SAY]])
def test_a_prompt_that_whole_conversations_repeat_adds_nothing(prompt: object) -> None:
    assert to_row({"prompt": prompt, **PAIR}, origin=ORIGIN) == to_row(PAIR, origin=ORIGIN)


@pytest.mark.parametrize(
    "prompt", ["3 + 3?", [{**ASK, "content": "3 + 3?"}], [SYSTEM, {**ASK, "content": "3 + 3?"}], [ASK, SAY, ASK]]
)
def test_a_prompt_that_contradicts_whole_conversations_is_a_bad_row(prompt: object) -> None:
    with pytest.raises(BadRow, match="'prompt' is another prompt than that in 'chosen'"):
        to_row({"prompt": prompt, **PAIR}, origin=ORIGIN)


def test_another_system_message_than_the_prompts_is_a_bad_row() -> None:
    whole = [{**SYSTEM, "content": "Be long."}, ASK]
    with pytest.raises(BadRow, match="another prompt"):
        to_row({"prompt": [SYSTEM, ASK], "chosen": [*whole, SAY], "rejected": [*whole, ASK]}, origin=ORIGIN)


@pytest.mark.parametrize(("number", "text"), [(33, "33"), (-2, "-2"), (0.5, "0.5"), (3.0, "3.0")])
def test_numbers_as_answers_solutions_and_channels_are_texts(number: float, text: str) -> None:
    row = to_row({"problem": "x", "answer": number, "solution": number, "channel": number}, origin=ORIGIN)
    assert row.conversation.messages[1].content == row.solution == row.channel == text


@pytest.mark.parametrize(
    ("solution", "text"), [(["a", "ü"], '["a", "ü"]'), ([1, {"b": 2}], '[1, {"b": 2}]'), ({"b": 2}, '{"b": 2}')]
)
def test_a_solution_of_several_parts_is_json(solution: object, text: str) -> None:
    assert to_row({"query": "x", "response": "y", "solution": solution}, origin=ORIGIN).solution == text


@pytest.mark.parametrize("name", ["answer", "solution", "channel"])
@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), b"x"])
def test_what_is_neither_number_nor_text_is_a_bad_row(name: str, value: object) -> None:
    row = {"problem": "x", "answer": "y", name: value}
    with pytest.raises(BadRow, match=f"'{name}' is"):
        to_row(row, origin=ORIGIN)


@pytest.mark.parametrize(
    ("label", "expected"), [("1.0", True), ("0.0", False), (1.0, True), (0.0, False), ("2.0", None), (0.5, None)]
)
def test_a_label_may_be_a_number_with_a_point(label: object, expected: bool | None) -> None:
    row = to_row({"query": "x", "response": "y", "label": label}, origin=ORIGIN)
    assert row.label is expected
    assert row.extras == ({} if expected is not None else {"label": label})


@pytest.mark.parametrize(
    "tool", [ADD, ADD["function"], {"type": "function", "name": "add", "parameters": {"type": "object"}}]
)
def test_a_function_alone_is_a_tool(tool: object) -> None:
    assert to_row({"messages": [ASK, SAY], "tools": [tool]}, origin=ORIGIN).conversation.tools == (ADD,)


def test_a_tool_of_another_type_stays_as_it_is() -> None:
    tool = {"type": "retrieval", "name": "search"}
    assert to_row({"messages": [ASK, SAY], "tools": [tool]}, origin=ORIGIN).conversation.tools == (tool,)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"name": "add", "arguments": {"x": 1}}, ToolCall("add", {"x": 1})),
        ({"id": "c1", "name": "add", "arguments": '{"x": 1}'}, ToolCall("add", {"x": 1}, id="c1")),
        ({"function": {"name": "now", "arguments": None}}, ToolCall("now", {})),
        ({"function": {"name": "now", "arguments": ""}}, ToolCall("now", {})),
        ({"function": {"name": "now"}}, ToolCall("now", {})),
    ],
)
def test_calls_may_lack_their_frame_or_arguments(call: object, expected: ToolCall) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "3"}
    row = to_row({"messages": [ASK, message, result, SAY]}, origin=ORIGIN)
    assert row.conversation.messages[1].tool_calls == (expected,)
