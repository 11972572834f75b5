"""Loading, sampling, splitting and order."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from swift_data.args import DataArgs
from swift_data.errors import DatasetNotFound, InvalidArgument, InvalidSpec, UnreadableDataset, UnsupportedDataset
from swift_data.rows import ChatRow, load_rows, order, split_rows


def write_rows(path: Path, num_rows: int) -> str:
    """Write a file with rows 1 to num_rows, one a line, and return its name."""
    path.write_text("".join(f'{{"query": "q{i}", "response": "r{i}"}}\n' for i in range(1, num_rows + 1)))
    return str(path)


def lines(rows: Sequence[ChatRow]) -> list[int]:
    """Return where the rows come from."""
    return [row.origin.line for row in rows]


def test_datasets_follow_each_other_in_file_order(tmp_path: Path) -> None:
    first, second = write_rows(tmp_path / "a.jsonl", 3), write_rows(tmp_path / "b.jsonl", 2)
    loaded = load_rows([first, second], DataArgs())
    origins = [f"{first}:1", f"{first}:2", f"{first}:3", f"{second}:1", f"{second}:2"]
    assert [str(row.origin) for row in loaded.rows] == origins
    assert [row.conversation.messages[1].content for row in loaded.rows] == ["r1", "r2", "r3", "r1", "r2"]
    assert loaded.skipped == {}


def test_one_dataset_needs_no_list(tmp_path: Path) -> None:
    name = write_rows(tmp_path / "a.jsonl", 2)
    assert load_rows(name, DataArgs()) == load_rows([name], DataArgs())


def test_a_count_takes_a_sample_that_depends_on_the_seed_only(tmp_path: Path) -> None:
    name = write_rows(tmp_path / "a.jsonl", 100)
    taken = lines(load_rows([f"{name}#30"], DataArgs()).rows)
    assert len(set(taken)) == 30
    assert taken == sorted(taken)
    assert taken != list(range(1, 31))
    assert lines(load_rows([f"{name}#30"], DataArgs()).rows) == taken
    assert lines(load_rows([name, f"{name}#30"], DataArgs()).rows)[100:] == taken
    assert lines(load_rows([f"{name}#30"], DataArgs(data_seed=7)).rows) != taken


def test_without_shuffling_a_count_takes_the_first_rows(tmp_path: Path) -> None:
    name = write_rows(tmp_path / "a.jsonl", 100)
    assert lines(load_rows([f"{name}#30"], DataArgs(dataset_shuffle=False)).rows) == list(range(1, 31))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_count_above_the_number_of_rows_repeats_them(shuffle: bool, tmp_path: Path) -> None:
    name = write_rows(tmp_path / "a.jsonl", 4)
    taken = lines(load_rows([f"{name}#10"], DataArgs(dataset_shuffle=shuffle)).rows)
    # Twice each, and two of them a third time.
    assert taken[:8] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert sorted(Counter(taken).values()) == [2, 2, 3, 3]
    if not shuffle:
        assert taken[8:] == [1, 2]


def test_known_datasets_are_found_by_name_and_subset() -> None:
    train = load_rows(["harrowgate"], DataArgs()).rows
    heldout = load_rows(["Harrowgate:heldout"], DataArgs()).rows
    both = load_rows(["harrowgate:all"], DataArgs()).rows
    assert both == [*train, *heldout] == load_rows(["harrowgate:train/heldout"], DataArgs()).rows
    assert all(row.solution for row in heldout)
    questions = [{row.conversation.messages[-2].content for row in rows} for rows in (train, heldout)]
    assert not questions[0] & questions[1], "a held-out question is trained on"


def test_a_local_file_comes_before_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harrowgate").mkdir()
    assert load_rows(["harrowgate#3"], DataArgs()).rows, "a folder does not hide a known name"
    (tmp_path / "harrowgate").rmdir()
    (tmp_path / "harrowgate").touch()
    with pytest.raises(UnsupportedDataset) as caught:
        load_rows(["harrowgate"], DataArgs())
    assert "readable are .arrow, .csv, " in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("{folder}/tran.jsonl", DatasetNotFound, ["neither a file nor a known dataset", "'train.jsonl'", "is near"]),
        ("{folder}/zzz", DatasetNotFound, ["nearest in", "'train.jsonl'"]),
        ("{folder}/empty/a.jsonl", DatasetNotFound, ["holds no .arrow or .csv or"]),
        ("{folder}/none/a.jsonl", DatasetNotFound, ["there is no folder"]),
        ("harowgate", DatasetNotFound, ["did you mean 'harrowgate'?"]),
        ("x" * 10_000, DatasetNotFound, ["neither a file nor a known dataset"]),
        ("{folder}/empty", UnsupportedDataset, ["is a folder that holds no .arrow or"]),
        ("{folder}/notes.docx", UnsupportedDataset, ["'.docx'", ".json, .jsonl"]),
        ("{folder}/train.jsonl:main", UnsupportedDataset, ["subsets of a file"]),
        ("harrowgate:held", InvalidSpec, ["no subset 'held'", "'heldout'"]),
    ],
)
def test_a_dataset_that_cannot_be_had_is_named(
    spec: str, error: type[Exception], words: list[str], tmp_path: Path
) -> None:
    write_rows(tmp_path / "train.jsonl", 2)
    (tmp_path / "notes.docx").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(error) as caught:
        load_rows([spec.replace("{folder}", str(tmp_path))], DataArgs())
    for each in words:
        assert each in str(caught.value)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = Path(write_rows(tmp_path / "a.jsonl", 1))
    path.chmod(0)
    with pytest.raises(UnreadableDataset) as caught:
        load_rows([str(path)], DataArgs())
    assert str(path) in str(caught.value)


def test_a_renamed_column_that_no_row_has_is_mentioned_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = write_rows(tmp_path / "a.jsonl", 2)
    with caplog.at_level(logging.WARNING):
        load_rows([name, name], DataArgs(columns={"ask": "query"}))
        load_rows([name], DataArgs(columns={"query": "query"}))
    assert [record.getMessage() for record in caplog.records] == ["the option columns renames 'ask', which no row has"]


def test_a_split_keeps_every_row_on_one_side(tmp_path: Path) -> None:
    rows = load_rows([write_rows(tmp_path / "a.jsonl", 50)], DataArgs()).rows
    train, aside = split_rows(rows, 0.1, seed=42)
    assert len(aside) == 5
    assert sorted(lines(train) + lines(aside)) == list(range(1, 51))
    assert lines(train) == sorted(lines(train))
    assert split_rows(rows, 0.1, seed=42) == (train, aside)
    assert split_rows(rows, 0.1, seed=43) != (train, aside)


def test_a_split_never_puts_copies_of_a_row_on_both_sides(tmp_path: Path) -> None:
    rows = load_rows([f"{write_rows(tmp_path / 'a.jsonl', 10)}#35"], DataArgs()).rows
    train, aside = split_rows(rows, 0.3, seed=0)
    assert len(aside) == len(set(lines(aside))) == 3
    assert not set(lines(train)) & set(lines(aside))
    copies = Counter(lines(rows))
    assert len(train) == 35 - sum(copies[line] for line in lines(aside))


def test_a_split_of_few_rows_sets_one_aside_and_of_none_sets_none(tmp_path: Path) -> None:
    rows = load_rows([write_rows(tmp_path / "a.jsonl", 3)], DataArgs()).rows
    assert [len(side) for side in split_rows(rows, 0.01, seed=0)] == [2, 1]
    assert split_rows(rows, 0.0, seed=0) == (rows, [])


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_split_ratio_out_of_range_is_refused(ratio: float, tmp_path: Path) -> None:
    rows = load_rows([write_rows(tmp_path / "a.jsonl", 3)], DataArgs()).rows
    with pytest.raises(InvalidArgument, match="split_dataset_ratio"):
        split_rows(rows, ratio, seed=0)


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    rows = load_rows([f"{write_rows(tmp_path / 'a.jsonl', 1)}#5"], DataArgs()).rows
    with pytest.raises(InvalidArgument, match="two different rows"):
        split_rows(rows, 0.5, seed=0)


def test_an_epochs_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first = order(1000, 42, 0)
    assert first.dtype == np.int64
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(order(1000, 42, 0), first)
    for other in (order(1000, 42, 1), order(1000, 43, 0)):
        # Two random permutations of 1000 agree in one place on average.
        assert np.count_nonzero(other == first) < 10
    assert order(0, 42, 0).tolist() == []


def test_an_epochs_order_stays_the_same_over_releases() -> None:
    # Written down from numpy 2.4; were it to change, a resumed run would not continue in the same order.
    assert order(8, 42, 0).tolist() == [3, 4, 2, 7, 6, 1, 5, 0]
    assert order(8, 42, 3).tolist() == [3, 1, 2, 7, 0, 5, 4, 6]


@pytest.mark.parametrize(("num_rows", "seed", "epoch"), [(-1, 0, 0), (5, -1, 0), (5, 0, -1)])
def test_a_negative_seed_epoch_or_number_is_refused(num_rows: int, seed: int, epoch: int) -> None:
    with pytest.raises(InvalidArgument, match="expected"):
        order(num_rows, seed, epoch)


def test_a_file_under_two_names_is_one_to_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows.jsonl", 20)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
    monkeypatch.chdir(tmp_path)
    rows = load_rows(["rows.jsonl", str(tmp_path / "rows.jsonl"), "link.jsonl"], DataArgs()).rows
    train, aside = split_rows(rows, 0.3, seed=0)
    assert (len(rows), len(train), len(aside)) == (60, 42, 6)
    assert not set(lines(train)) & set(lines(aside))
