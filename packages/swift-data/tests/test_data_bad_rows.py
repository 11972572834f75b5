"""Bad rows: each is named by file, line and field, none is trained on, and none is lost without being counted."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from swift_data.args import DataArgs
from swift_data.errors import BadRow, EmptyDataset, Reason, UnreadableDataset
from swift_data.rows import load_rows

GOOD = '{"query": "What is 2 + 2?", "response": "4"}'


def chat(*turns: tuple[str, object], **columns: object) -> str:
    """Return a line with these messages."""
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns], **columns})


def line(**columns: object) -> str:
    """Return a line with these columns."""
    return json.dumps(columns)


# Each line, the reason it is counted under, and what the message must say.
BAD_LINES = [
    pytest.param('{"query": "2 + 2?", "resp', "not JSON", ["not JSON", "Unterminated string"], id="cut off"),
    pytest.param("What is 2 + 2? 4", "not JSON", ["not JSON", "'What is 2 + 2? 4'"], id="text"),
    pytest.param("{'query': 'x', 'response': 'y'}", "not JSON", ["not JSON", "double quotes"], id="python"),
    pytest.param(GOOD + GOOD, "not JSON", ["Extra data"], id="two objects on a line"),
    pytest.param(
        '{"query": "x", "response": "y", "response": "z"}', "not JSON", ["the key 'response' twice"], id="a key twice"
    ),
    pytest.param('{"query": NaN, "response": "4"}', "not JSON", ["NaN is no JSON value"], id="NaN"),
    pytest.param("[" * 100_000, "not JSON", ["not JSON"], id="a hundred thousand brackets"),
    pytest.param('["2 + 2?", "4"]', "not an object", ["expected a JSON object", "list"], id="a list"),
    pytest.param('"4"', "not an object", ["expected a JSON object", "str"], id="a string"),
    pytest.param("null", "not an object", ["expected a JSON object"], id="null"),
    pytest.param("{}", "unknown columns", ["no columns", "a conversation"], id="no columns"),
    pytest.param(
        line(ask="x", reply="y"), "unknown columns", ["'ask', 'reply'", "query + response"], id="unknown columns"
    ),
    pytest.param(line(query="x"), "missing field", ["'query'", "lacks 'response'"], id="no response"),
    pytest.param(line(query="x", response=None), "missing field", ["lacks 'response'"], id="null response"),
    pytest.param(
        line(response="x", source="y"), "missing field", ["lacks 'instruction' or 'prompt' or 'query'"], id="no query"
    ),
    pytest.param(line(prompt="x"), "missing field", ["lacks 'completion' or 'response'"], id="no completion"),
    pytest.param(
        line(query="x", response="y", prompt="x", completion="y"),
        "ambiguous columns",
        ["'query + response'", "'prompt + completion'"],
        id="two formats",
    ),
    pytest.param(
        chat(("user", "x"), ("assistant", "y"), conversations=[{"from": "human", "value": "x"}]),
        "ambiguous columns",
        ["'messages' and 'conversations'"],
        id="messages and sharegpt",
    ),
    pytest.param(line(query="x", response=""), "empty answer", ["'response' is ''"], id="empty response"),
    pytest.param(line(query="x", response=" \n\t"), "empty answer", ["'response'"], id="blank response"),
    pytest.param(
        line(instruction="x", input="", output=""), "empty answer", ["'output' is ''"], id="empty alpaca output"
    ),
    pytest.param(
        line(query="x", response="y", history=[["a", ""]]), "empty answer", ["'history[0][1]'"], id="empty in history"
    ),
    pytest.param(
        chat(("user", "x"), ("assistant", "")), "empty answer", ["'messages[1].content'"], id="empty assistant message"
    ),
    pytest.param(
        chat(("user", "x"), ("assistant", ""), ("user", "x"), ("assistant", "y")),
        "empty answer",
        ["'messages[1].content'"],
        id="empty answer in the middle",
    ),
    pytest.param(
        line(conversations=[{"from": "human", "value": "x"}, {"from": "gpt", "value": ""}]),
        "empty answer",
        ["'conversations[1].value'"],
        id="empty sharegpt answer",
    ),
    pytest.param(
        chat(("user", "x"), ("user", "y"), ("assistant", "z")),
        "wrong role order",
        ["message 2", "'user' after 'user'"],
        id="two questions",
    ),
    pytest.param(
        chat(("user", "x"), ("assistant", "y"), ("assistant", "z")),
        "wrong role order",
        ["message 3", "'assistant' after 'assistant'"],
        id="two answers",
    ),
    pytest.param(
        chat(("assistant", "y"), ("user", "x"), ("assistant", "y")),
        "wrong role order",
        ["message 1", "'assistant'"],
        id="answer first",
    ),
    pytest.param(
        chat(("system", "s"), ("user", "x"), ("assistant", "y"), system="t"),
        "wrong role order",
        ["message 2", "'system'"],
        id="two system prompts",
    ),
    pytest.param(
        chat(("user", "x"), ("system", "s"), ("assistant", "y")),
        "wrong role order",
        ["message 2", "'system'"],
        id="system in the middle",
    ),
    pytest.param(
        line(
            conversations=[
                {"from": "gpt", "value": "y"},
                {"from": "human", "value": "x"},
                {"from": "gpt", "value": "y"},
            ]
        ),
        "wrong role order",
        ["message 1"],
        id="sharegpt, answer first",
    ),
    pytest.param(
        chat(("user", [{"type": "hologram"}]), ("assistant", "y")),
        "invalid value",
        ["'messages[0].content[0].type' is 'hologram'", "'image_url'"],
        id="an unknown part",
    ),
    pytest.param(line(query=["x"], response="y"), "not text", ["'query' is a list"], id="a list as query"),
    pytest.param(line(query="x", response=["y"]), "not text", ["'response' is a list"], id="a list as response"),
    pytest.param(line(query=4, response="y"), "not text", ["'query' is 4; expected text"], id="a number as query"),
    pytest.param(line(query="x", response=4), "not text", ["'response' is 4; expected text"], id="a number"),
    pytest.param(line(query="x", response=True), "not text", ["'response' is True"], id="a flag"),
    pytest.param(line(query="x", response={"a": 1}), "not text", ["'response' is {'a': 1}"], id="an object"),
    pytest.param(
        chat(("user", 7), ("assistant", "y")), "not text", ["'messages[0].content' is 7"], id="number content"
    ),
    pytest.param(
        chat(("user", None), ("assistant", "y")), "missing field", ["'messages[0].content'"], id="null content"
    ),
    pytest.param(
        chat(("user", "x"), ("assistant", None)), "missing field", ["'messages[1].content'"], id="null answer"
    ),
    pytest.param(line(query="x", response="\ud83d"), "not text", ["'response'", "surrogate"], id="half a character"),
    pytest.param(line(query="x", response="y", system=1), "not text", ["'system' is 1"], id="a number as system"),
    pytest.param(
        line(query="x", response="y", history="[['a', 'b']]"),
        "invalid value",
        ["'history'", "pairs"],
        id="text as history",
    ),
    pytest.param(
        line(query="x", response="y", history=[["a", "b", "c"]]),
        "invalid value",
        ["'history[0]'"],
        id="three in a pair",
    ),
    pytest.param(
        chat(("user", "x"), ("bot", "y")), "unknown role", ["'messages[1].role' is 'bot'", "'assistant'"], id="role"
    ),
    pytest.param(
        line(conversations=[{"from": "human", "value": "x"}, {"from": "narrator", "value": "y"}]),
        "unknown role",
        ["'conversations[1].from' is 'narrator'", "'gpt'"],
        id="sharegpt role",
    ),
    pytest.param(
        line(messages=[{"content": "x"}, {"role": "assistant", "content": "y"}]),
        "missing field",
        ["'messages[0]' lacks 'role'", "'content'"],
        id="no role",
    ),
    pytest.param(
        line(messages=[{"role": "user", "text": "x"}, {"role": "assistant", "content": "y"}]),
        "missing field",
        ["'messages[0]' lacks 'content'", "'text'"],
        id="no content",
    ),
    pytest.param(
        line(conversations=[{"role": "user", "content": "x"}]),
        "no answer",
        ["'user'"],
        id="messages under sharegpt's name, without an answer",
    ),
    pytest.param(line(messages=[]), "missing field", ["'messages' is an empty list"], id="no messages"),
    pytest.param(line(messages="x"), "invalid value", ["'messages' is 'x'; expected a list"], id="text as messages"),
    pytest.param(line(messages=["x", "y"]), "invalid value", ["'messages[0]' is 'x'; expected an object"], id="texts"),
    pytest.param(chat(("user", "x")), "no answer", ["'user'", "an answer"], id="no assistant turn"),
    pytest.param(chat(("system", "x")), "no answer", ["'system'", "an answer"], id="system only"),
    pytest.param(
        chat(("user", "x"), ("assistant", "y"), ("user", "z")), "no answer", ["'user'"], id="a question without answer"
    ),
    pytest.param(
        line(messages=[{"role": "user", "content": "x", "loss": True}, {"role": "assistant", "content": "y"}]),
        "invalid value",
        ["'messages[0]'", "loss"],
        id="a question to be trained",
    ),
    pytest.param(
        line(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "loss": "no"}]),
        "invalid value",
        ["'messages[1].loss' is 'no'"],
        id="loss in words",
    ),
    pytest.param(
        line(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "loss_scale": -1}]),
        "invalid value",
        ["'messages[1].loss_scale' is -1"],
        id="negative weight",
    ),
    pytest.param(
        line(
            messages=[
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            ]
        ),
        "invalid value",
        ["'messages[1].tool_calls[0].function.arguments' is not JSON"],
        id="broken arguments",
    ),
    pytest.param(line(query="x", response="y", tools="add"), "invalid value", ["'tools'", "not JSON"], id="tools"),
    pytest.param(
        line(query="x", response="y", solution=True), "not text", ["'solution' is True"], id="a flag as solution"
    ),
    pytest.param(
        line(query="<image>x", response="y", images=["a.png", "b.png"]),
        "invalid value",
        ["'images' has 2"],
        id="pictures",
    ),
]


def write(path: Path, *lines: str) -> str:
    """Write a file of these lines and return its name."""
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("bad", "reason", "words"), BAD_LINES)
def test_a_bad_row_stops_the_loading(bad: str, reason: Reason, words: list[str], tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", GOOD, "", bad, GOOD)
    with pytest.raises(BadRow) as caught:
        load_rows([name], DataArgs())
    error, message = caught.value, str(caught.value)
    assert error.reason == reason
    # The blank line counts as a line.
    assert message.startswith(f"{name}:3: ")
    for each in words:
        assert each in error.problem
    assert "No other row of this file is bad" in message
    assert "on_bad_row" in message
    assert "\n" not in message
    assert len(message) < 700


@pytest.mark.parametrize(("bad", "reason", "words"), BAD_LINES)
def test_a_bad_row_is_skipped_by_choice_and_counted(bad: str, reason: Reason, words: list[str], tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", GOOD, "", bad, GOOD)
    loaded = load_rows([name], DataArgs(on_bad_row="skip"))
    assert [row.origin.line for row in loaded.rows] == [1, 4]
    assert loaded.skipped == {reason: 1}
    assert words


def test_the_first_bad_row_tells_of_the_others(tmp_path: Path) -> None:
    empty = '{"query": "x", "response": ""}'
    name = write(tmp_path / "rows.jsonl", GOOD, empty, "{", empty, empty, GOOD, empty, empty, "{")
    with pytest.raises(BadRow) as caught:
        load_rows([name], DataArgs())
    assert str(caught.value) == (
        f"{name}:2: 'response' is ''; an answer needs text. 6 more rows of this file are bad: "
        "4 'empty answer' (lines 4, 5, 7, ...), 2 'not JSON' (lines 3, 9). "
        "Correct the file, or set on_bad_row to 'skip' to leave such rows out and count them"
    )


def test_one_more_bad_row_is_told_in_the_singular(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", "{", "[]", GOOD)
    with pytest.raises(BadRow) as caught:
        load_rows([name], DataArgs())
    assert "1 more row of this file is bad: 1 'not an object' (line 2)" in str(caught.value)


def test_skipped_rows_are_counted_over_all_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", GOOD, "{", "[]")
    second = write(tmp_path / "b.jsonl", "{", GOOD)
    loaded = load_rows([first, second], DataArgs(on_bad_row="skip"))
    assert loaded.skipped == {"not JSON": 2, "not an object": 1}
    assert [str(row.origin) for row in loaded.rows] == [f"{first}:1", f"{second}:2"]


def test_a_file_of_bad_rows_is_an_error_even_where_they_are_skipped(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", "{", "[]", "{")
    with pytest.raises(EmptyDataset) as caught:
        load_rows([name], DataArgs(on_bad_row="skip"))
    message = str(caught.value)
    assert "all 3 are bad" in message
    assert f"{name}:1: not JSON" in message
    assert "1 'not JSON' (line 3)" in message


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "  \r\n"])
def test_an_empty_file_is_an_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EmptyDataset) as caught:
        load_rows([str(path)], DataArgs())
    assert f"dataset {str(path)!r} is empty" in str(caught.value)


def test_bytes_that_are_not_utf8_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + '{"query": "Größe", "response": "4"}'.encode("latin-1"))
    with pytest.raises(BadRow) as caught:
        load_rows([str(path)], DataArgs())
    # "G" "r" are bytes 12 and 13 of the line.
    assert f"{path}:2: byte 13 of the line is not UTF-8" in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode())
    assert [row.origin.line for row in load_rows([str(path)], DataArgs()).rows] == [1, 3]


def test_a_json_array_names_the_line_of_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f"[\n{GOOD},\n\n{{\n'query': 1}}]".replace("'", '"'), encoding="utf-8")
    with pytest.raises(BadRow) as caught:
        load_rows([str(path)], DataArgs())
    assert str(caught.value).startswith(f"{path}:4: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('"' + GOOD, "or a JSON object a line"),
        (f"[{GOOD}\n{GOOD}]", "2: not JSON: expected ',' or ']'"),
        (f"[{GOOD},\n", "2: the row that begins here is not JSON"),
        (f"[{GOOD}", "expected ',' or ']'"),
        (f"[{GOOD}]\n[]", "1: something follows"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_json_file_is_an_error_even_where_rows_are_skipped(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UnreadableDataset) as caught:
        load_rows([str(path)], DataArgs(on_bad_row="skip"))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_two_columns_of_one_name_after_renaming_are_refused(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", '{"ask": "x", "query": "z", "response": "y"}')
    with pytest.raises(BadRow) as caught:
        load_rows([name], DataArgs(columns={"ask": "query"}))
    assert "two columns are called 'query'" in str(caught.value)


def test_a_bad_row_survives_pickling(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", "{", "[]")
    with pytest.raises(BadRow) as caught:
        load_rows([name], DataArgs())
    # Copying takes an error apart and puts it together as pickling does, which worker processes do to hand it on.
    again = copy.copy(caught.value)
    assert again is not caught.value
    assert str(again) == str(caught.value)
    assert (again.reason, again.origin) == (caught.value.reason, caught.value.origin)
