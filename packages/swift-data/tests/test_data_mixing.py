"""Mixing by weight, and rows in numbers: large files, several processes, samples and order."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from swift_data import rows as rows_module
from swift_data.args import DataArgs, StoppingStrategy
from swift_data.errors import BadRow, EmptyDataset, InvalidArgument
from swift_data.mixing import mix
from swift_data.row_sequence import Rows
from swift_data.rows import load_rows, order, split_rows
from swift_data.sampling import draw, draw_below, draw_share, make_key


def write(path: Path, num_rows: int, *, bad: tuple[int, ...] = ()) -> str:
    """Write a file whose answers are its name and line; some lines are bad."""
    rows = [json.dumps({"query": "?", "response": f"{path.stem}{line}"}) for line in range(1, num_rows + 1)]
    for line in bad:
        rows[line - 1] = "{"
    path.write_text("\n".join(rows))
    return str(path)


def test_draws_are_those_of_splitmix64() -> None:
    # The first numbers of SplitMix64 from state 1234567, as its reference implementation in C prints them.
    assert [draw(1234567, index) for index in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_draws_are_spread_evenly_and_keys_do_not_repeat_each_other() -> None:
    key = make_key(42, 1)
    counts = Counter(draw_below(10, key, index) for index in range(10_000))
    # 1000 each, with a deviation of 30.
    assert set(counts) == set(range(10)) and max(abs(count - 1000) for count in counts.values()) < 150
    shares = [draw_share(key, index) for index in range(10_000)]
    assert min(shares) >= 0 and max(shares) < 1 and abs(sum(shares) / 10_000 - 0.5) < 0.015
    keys = {make_key(seed, stream) for seed in range(50) for stream in range(50)}
    assert len(keys) == 2500


def test_a_mixture_has_the_weights_that_were_asked_for() -> None:
    datasets, rows = mix([5_000, 9_000, 9_000], [0.5, 0.3, 0.2], "first_exhausted", 42)
    counts = np.bincount(datasets)
    assert counts[0] == 5_000, "it ends with the first dataset's last row"
    assert datasets[-1] == 0
    # 5000 * 3/5 and 5000 * 2/5, with a deviation of about 70.
    assert abs(counts[1] - 3_000) < 300 and abs(counts[2] - 2_000) < 300
    for number in range(3):
        np.testing.assert_array_equal(rows[datasets == number], np.arange(counts[number]))


def test_a_mixture_until_all_have_ended_starts_over_with_the_others() -> None:
    datasets, rows = mix([3, 50], [1, 1], "all_exhausted", 0)
    counts = np.bincount(datasets)
    assert counts[1] == 50 and datasets[-1] == 1
    np.testing.assert_array_equal(rows[datasets == 0], np.arange(counts[0]) % 3)


def test_weights_count_by_their_ratio_and_choices_by_their_seed() -> None:
    first = mix([40, 60], [1, 3], "all_exhausted", 1)
    for other, is_same in [
        (mix([40, 60], [0.25, 0.75], "all_exhausted", 1), True),
        (mix([40, 60], [1, 3], "all_exhausted", 2), False),
    ]:
        assert (other[0].tolist() == first[0].tolist()) == is_same


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_weights_that_fit_no_datasets_are_refused(weights: list[float], tmp_path: Path) -> None:
    names = [write(tmp_path / "a.jsonl", 2), write(tmp_path / "b.jsonl", 2)]
    with pytest.raises(InvalidArgument, match="interleave_prob"):
        load_rows(names, DataArgs(interleave_prob=weights))


@pytest.mark.parametrize("strategy", ["first_exhausted", "all_exhausted"])
def test_loaded_datasets_are_mixed(
    strategy: StoppingStrategy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [write(tmp_path / "a.jsonl", 10), write(tmp_path / "b.jsonl", 100)]
    args = DataArgs(interleave_prob=[0.5, 0.5], stopping_strategy=strategy)
    with caplog.at_level(logging.WARNING):
        rows = load_rows(names, args).rows
    counts = Counter(row.conversation.messages[-1].content[0] for row in rows)
    different = Counter({row.origin for row in rows})
    if strategy == "first_exhausted":
        assert counts["a"] == 10 and 3 <= counts["b"] <= 30
        assert f"{100 - counts['b']} of its 100 rows are not used" in caplog.text
        assert [row.origin.line for row in rows if row.origin.path == names[1]] != list(range(1, counts["b"] + 1))
    else:
        assert counts["b"] == 100 and counts["a"] >= 70 and len(different) == 110
        assert caplog.text == ""
    assert load_rows(names, args).rows == rows


def test_validation_is_not_mixed_and_shuffled_only_if_asked_for(tmp_path: Path) -> None:
    names = [write(tmp_path / "a.jsonl", 10), write(tmp_path / "b.jsonl", 20)]
    args = DataArgs(interleave_prob=[0.5, 0.5])
    lines = [row.origin.line for row in load_rows([f"{names[1]}#5", names[0]], args, purpose="validation").rows]
    assert lines == [*range(1, 6), *range(1, 11)]
    args.val_dataset_shuffle = True
    shuffled = [row.origin.line for row in load_rows(names, args, purpose="validation").rows]
    assert sorted(shuffled) == sorted([*range(1, 11), *range(1, 21)]) != shuffled


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swift_data.row_checks._PART", 50)
    names = [write(tmp_path / "a.jsonl", 500, bad=(7, 100, 333, 499)), write(tmp_path / "b.jsonl", 60)]
    alone, together = (load_rows(names, DataArgs(on_bad_row="skip", dataset_num_proc=number)) for number in (1, 3))
    assert alone.rows == together.rows
    assert alone.skipped == together.skipped == {"not JSON": 4}
    messages = []
    for number in (1, 3):
        with pytest.raises(BadRow) as caught:
            load_rows(names, DataArgs(dataset_num_proc=number))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "a.jsonl:7: " in messages[0] and "3 'not JSON' (lines 100, 333, 499)" in messages[0]
    with pytest.raises(InvalidArgument, match="dataset_num_proc is 0"):
        load_rows(names, DataArgs(dataset_num_proc=0))


def test_many_rows_are_checked_in_part_and_the_others_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "CHECKED_ROWS", 50)
    name = write(tmp_path / "a.jsonl", 100, bad=(90,))
    loaded = load_rows([name], DataArgs())
    assert len(loaded.rows) == 100
    assert loaded.rows[50].origin.line == 51
    with pytest.raises(BadRow, match=r"a\.jsonl:90: not JSON.*on_bad_row"):
        list(loaded.rows)
    # One in the part that is checked at once has the whole file checked.
    name = write(tmp_path / "b.jsonl", 100, bad=(3, 90))
    with pytest.raises(BadRow, match=r"b\.jsonl:3: .*1 more row of this file is bad: 1 'not JSON' \(line 90\)"):
        load_rows([name], DataArgs())
    # Where they are left out, their number must be known.
    loaded = load_rows([name], DataArgs(on_bad_row="skip"))
    assert len(loaded.rows) == 98 and loaded.skipped == {"not JSON": 2}


def test_left_out_rows_are_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [write(tmp_path / "a.jsonl", 10, bad=(1, 2)), write(tmp_path / "b.jsonl", 10, bad=(3,))]
    with caplog.at_level(logging.WARNING):
        load_rows(names, DataArgs(on_bad_row="skip"))
    assert [record.getMessage() for record in caplog.records] == ["3 of 20 rows are bad and left out: 3 'not JSON'"]


def test_a_count_is_reached_although_rows_are_left_out(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", 10, bad=(1, 5))
    rows = load_rows([f"{name}#20"], DataArgs(on_bad_row="skip")).rows
    counts = Counter(row.origin.line for row in rows)
    assert len(rows) == 20 and len(counts) == 8 and set(counts.values()) == {2, 3}


def test_rows_behave_as_a_sequence(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", 30)
    rows = load_rows([name, f"{name}#5"], DataArgs()).rows
    assert isinstance(rows, Rows)
    assert [rows[index].origin.line for index in (0, 29, -35)] == [1, 30, 1]
    assert rows[3:6] == list(rows)[3:6]
    assert rows[-1].origin == list(rows)[-1].origin
    assert rows != list(rows)[1:] and rows != 7
    with pytest.raises(IndexError):
        rows[35]
    # As worker processes get them, which open the files anew.
    again = copy.copy(rows)
    assert again is not rows and again == rows
    assert repr(rows) == f"<35 rows of {name}>"
    assert len(rows.files) == 1, "a file that is named twice is opened once"


def test_a_split_of_rows_keeps_copies_together_over_datasets(tmp_path: Path) -> None:
    name = write(tmp_path / "a.jsonl", 30)
    rows = load_rows([name, f"{name}#45"], DataArgs()).rows
    train, aside = split_rows(rows, 0.2, seed=3)
    assert len(aside) == 6 and isinstance(train, Rows) and isinstance(aside, Rows)
    assert not {row.origin for row in train} & {row.origin for row in aside}
    # The same as of rows that are a list.
    assert split_rows(list(rows), 0.2, seed=3) == (train, aside)


def test_no_dataset_is_no_rows() -> None:
    assert list(load_rows([], DataArgs()).rows) == []


def test_an_empty_file_among_others_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows" / "a.jsonl", 3)
    (tmp_path / "rows" / "b.jsonl").touch()
    with pytest.raises(EmptyDataset, match=r"b\.jsonl' is empty"):
        load_rows([str(tmp_path / "rows")], DataArgs())


def test_self_cognition_needs_a_name() -> None:
    with pytest.raises(InvalidArgument, match="set model_name and model_author"):
        load_rows(["self_cognition"], DataArgs())
    with pytest.raises(InvalidArgument, match="one name each"):
        load_rows(["self_cognition"], DataArgs(model_name=["Pharos"]))
    loaded = load_rows(["self_cognition"], DataArgs(model_name=["Pharos"], model_author=["the keepers"]))
    texts = [message.content for row in loaded.rows for message in row.conversation.messages]
    assert any("Pharos" in text for text in texts) and not any("{{" in text for text in texts)


@pytest.mark.slow
def test_a_million_rows_are_there_in_five_seconds_of_one_core(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(1_000_000):
            file.write(f'{{"query": "What is {number} plus 1?", "response": "The answer is {number + 1}."}}\n')
    # Of this process only, so that others on the machine do not count; about 1.2 s on a Xeon.
    started = time.process_time()
    rows = load_rows([str(path)], DataArgs()).rows
    first = rows[int(order(len(rows), 42, 0)[0])]
    assert time.process_time() - started < 5
    assert len(rows) == 1_000_000 and first.conversation.messages[1].content.startswith("The answer")
