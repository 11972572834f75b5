"""What words mean to an option; expected values are what the words say."""

from __future__ import annotations

from typing import Literal

import pytest
from swift_cli.errors import InvalidValue, UnsupportedOption
from swift_cli.values import to_kind


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        pytest.param(str, ["a b"], "a b", id="text"),
        pytest.param(str, [""], "", id="empty-text"),
        pytest.param(str, ["none"], "none", id="text-that-cannot-be-nothing"),
        pytest.param(str | None, ["none"], None, id="none"),
        pytest.param(str | None, ["NULL"], None, id="null-in-any-case"),
        pytest.param(int, ["-1"], -1, id="negative"),
        pytest.param(int | None, ["null"], None, id="no-number"),
        pytest.param(float, ["1e-4"], 0.0001, id="exponent"),
        pytest.param(float | None, ["3"], 3.0, id="whole-number-as-float"),
        pytest.param(bool, [], True, id="flag-alone"),
        pytest.param(bool, ["True"], True, id="True"),
        pytest.param(bool, ["FALSE"], False, id="FALSE"),
        pytest.param(bool, ["yes"], True, id="yes"),
        pytest.param(bool, ["off"], False, id="off"),
        pytest.param(bool, ["0"], False, id="0"),
        pytest.param(bool | None, ["1"], True, id="1"),
        pytest.param(bool | None, ["none"], None, id="undecided"),
        pytest.param(Literal["a", "none"], ["none"], "none", id="choice-called-none"),
        pytest.param(Literal["a", "none"] | None, ["none"], "none", id="choice-before-nothing"),
        pytest.param(Literal[4, 8], ["8"], 8, id="numeric-choice"),
        pytest.param(list[str], [], [], id="empty-list"),
        pytest.param(list[str], ["none"], [], id="none-as-empty-list"),
        pytest.param(list[str], ["a.jsonl#5", "b"], ["a.jsonl#5", "b"], id="list"),
        pytest.param(list[int], ["1", "-2"], [1, -2], id="list-of-numbers"),
        pytest.param(list[str] | None, ["none"], None, id="no-list"),
        pytest.param(dict[str, str], ['{"ask": "query"}'], {"ask": "query"}, id="mapping"),
        pytest.param(dict[str, object], ['{"a": [1, null]}'], {"a": [1, None]}, id="any-json"),
        pytest.param(dict[str, float], ['{"a": 1}'], {"a": 1}, id="mapping-to-numbers"),
    ],
)
def test_words_become_the_value_they_spell(annotation: object, words: list[str], value: object) -> None:
    read = to_kind(annotation).read(words)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("annotation", "words", "message"),
    [
        pytest.param(float | None, ["abc"], "is 'abc'; expected a number, or none", id="number"),
        pytest.param(int, ["1.5"], "is '1.5'; expected a whole number", id="fraction"),
        pytest.param(int, ["none"], "is 'none'; expected a whole number", id="nothing-not-allowed"),
        pytest.param(int, [], "needs a value; expected a whole number", id="missing"),
        pytest.param(int, ["1", "2"], "takes one value, not 2: '1' '2'; quote a value with blanks", id="too-many"),
        pytest.param(bool, ["maybe"], "is 'maybe'; expected true or false", id="bool"),
        pytest.param(
            Literal["float32", "bfloat16"],
            ["bfloat"],
            "is 'bfloat'; expected one of float32, bfloat16; did you mean 'bfloat16'?",
            id="near-choice",
        ),
        pytest.param(Literal["a", "b"], ["zzz"], "is 'zzz'; expected one of a, b", id="far-choice"),
        pytest.param(list[int], ["1", "x"], "is 'x'; expected any number of values, each a whole number", id="item"),
        pytest.param(dict[str, str], ["[1]"], "is '[1]'; expected a JSON object, each value a text", id="json-list"),
        pytest.param(dict[str, int], ['{"a": true}'], """is '{"a": true}'; expected a JSON object""", id="json-bool"),
        pytest.param(dict[str, str], ["{a: b}"], "is '{a: b}'; expected a JSON object", id="no-json"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(annotation: object, words: list[str], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        to_kind(annotation).read(words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("annotation", [bytes, int | str, list[list[int]], dict[int, str], tuple[int, ...], object])
def test_a_field_that_no_command_line_can_spell_is_refused(annotation: object) -> None:
    with pytest.raises(UnsupportedOption, match="cannot be an option"):
        to_kind(annotation)


@pytest.mark.parametrize(
    ("annotation", "metavar"),
    [
        (str, "TEXT"),
        (float | None, "FLOAT|none"),
        (bool, "{true,false}"),
        (Literal["a", "b"], "{a,b}"),
        (list[str], "[TEXT ...]"),
        (dict[str, str], "JSON"),
    ],
)
def test_help_shows_a_type_in_short(annotation: object, metavar: str) -> None:
    assert to_kind(annotation).metavar == metavar


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "none"),
        (True, "true"),
        ([], "none"),
        (["a", "b"], "a b"),
        ({}, "none"),
        ({"a": 1}, '{"a": 1}'),
        ("", "''"),
    ],
)
def test_help_shows_a_default_as_it_would_be_typed(value: object, shown: str) -> None:
    assert to_kind(str).show(value) == shown
