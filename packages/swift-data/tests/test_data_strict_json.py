"""JSON is read as the standard has it, in every source alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from swift_data.errors import BadRow, UnreadableDataset
from swift_data.source import RawRow, find_source
from swift_data.strict_json import DECODER

NO_JSON = ["NaN", "[Infinity]", '{"a": -Infinity}']


@pytest.mark.parametrize("text", NO_JSON)
def test_numbers_that_json_does_not_have_are_refused(text: str) -> None:
    json.loads(text)  # Python's own decoder takes them.
    with pytest.raises(ValueError, match="is no JSON value"):
        DECODER.decode(text)


@pytest.mark.parametrize("text", NO_JSON)
def test_all_sources_read_with_one_decoder(text: str, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.json"):
        # Twice, so that the second is a line of a file of lines.
        (tmp_path / name).write_text(f'{{"a": 1}}\n{{"a": {text}}}\n')
        good, bad = find_source(tmp_path / name).read(tmp_path / name)
        assert isinstance(good, RawRow)
        assert isinstance(bad, BadRow) and "is no JSON value" in str(bad)
    path = tmp_path / "c.json"
    path.write_text(f'[{{"a": {text}}}]')
    with pytest.raises(UnreadableDataset, match="is no JSON value"):
        list(find_source(path).read(path))


def test_a_key_that_stands_twice_costs_its_row_only(tmp_path: Path) -> None:
    twice = '{"a": {"b": 1, "b": 2}}'
    for name, content in [("a.jsonl", f'{twice}\n{{"a": 1}}\n'), ("b.json", f'[{twice}, {{"a": 1}}]')]:
        (tmp_path / name).write_text(content)
        bad, good = find_source(tmp_path / name).read(tmp_path / name)
        assert isinstance(good, RawRow)
        assert isinstance(bad, BadRow) and "the key 'b' twice" in str(bad)


@pytest.mark.parametrize("content", ['[{"query": "x", "response": "y"},\n{"query": "x"}]', "[\n", '[{"query": "x"}]'])
def test_an_array_in_a_file_of_lines_is_told_to_be_renamed(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    first = next(iter(find_source(path).read(path)))
    assert isinstance(first, BadRow) and "rename it to .json" in str(first)
