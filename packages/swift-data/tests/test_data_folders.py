"""Folders of files: what becomes rows, and what is asked back."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from swift_data.args import DataArgs
from swift_data.errors import InvalidSpec, UnsupportedDataset
from swift_data.rows import load_rows


def put(path: Path, answer: str) -> None:
    """Write a file of one row."""
    path.write_text(json.dumps({"query": "x", "response": answer}))


def answers_of(spec: object) -> list[str]:
    return [row.conversation.messages[-1].content for row in load_rows([str(spec)], DataArgs()).rows]


def test_texts_beside_rows_are_no_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "rows.jsonl", "row")
    put(tmp_path / "more.jsonl", "more")
    (tmp_path / "LICENSE.txt").write_text("Do as you like.\n")
    (tmp_path / "test_requirements.txt").write_text("numpy\n")
    with caplog.at_level(logging.INFO, "swift_data"):
        assert answers_of(tmp_path) == ["more", "row"]
    said = [record.getMessage() for record in caplog.records]
    assert any("left out: 'LICENSE.txt', 'test_requirements.txt'" in each for each in said)
    assert f"1 of 1 rows of {tmp_path / 'rows.jsonl'} can be used" in said
    for name in ("rows.jsonl", "more.jsonl"):
        (tmp_path / name).unlink()
    assert answers_of(f"{tmp_path}:all") == ["Do as you like.", "numpy"]


def test_files_of_several_kinds_are_chosen_from(tmp_path: Path) -> None:
    put(tmp_path / "train.jsonl", "a line")
    put(tmp_path / "train.json", "a document")
    (tmp_path / "train.csv").write_text("query,response\nx,a cell\n")
    with pytest.raises(UnsupportedDataset, match=r"several kinds, '.csv', '.json', '.jsonl'.*such as '.*:csv'"):
        answers_of(tmp_path)
    assert answers_of(f"{tmp_path}:jsonl") == ["a line"]
    assert answers_of(f"{tmp_path}:csv") == ["a cell"]
    assert answers_of(f"{tmp_path}:all") == ["a cell", "a document", "a line"]


def test_copies_of_many_compressed_files_are_read_right(tmp_path: Path) -> None:
    # More than tables hold open each for itself.
    for number in range(70):
        row = json.dumps({"query": "x" * number, "response": f"packed {number}"})
        (tmp_path / f"{number:02}.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    assert answers_of(tmp_path) == [f"packed {number}" for number in range(70)]


def test_the_split_that_is_suggested_is_the_one_for_training(tmp_path: Path) -> None:
    put(tmp_path / "test.jsonl", "test")
    put(tmp_path / "train.jsonl", "train")
    with pytest.raises(InvalidSpec, match=r"choose, such as '.*:train'"):
        answers_of(tmp_path)
