"""What a user says to go on from, and whether a checkpoint is of this run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from swift_templates.encoded import Encoded
from swift_train.checkpoints import begin_checkpoint, finish_checkpoint
from swift_train.errors import BrokenCheckpoint
from swift_train.resuming import (
    ForeignCheckpoint,
    RunFingerprint,
    check_same_run,
    digest_samples,
    find_resumption,
    write_fingerprint,
)

RUN = RunFingerprint(
    base_model="llama",
    base_revision=None,
    algorithm="sft",
    dataset="abc",
    num_samples=10,
    packing_length=None,
    global_batch=16,
    data_seed=42,
)


def make_checkpoint(run: Path, step: int, *, damaged: bool = False) -> Path:
    partial = begin_checkpoint(run, step=step)
    write_fingerprint(RUN, partial)
    folder = finish_checkpoint(partial)
    if damaged:
        (folder / "run.json").unlink()
    return folder


@pytest.mark.parametrize("wanted", ["true", "latest", "RUN"])
def test_the_newest_whole_checkpoint_is_taken_and_others_are_said(tmp_path: Path, wanted: str) -> None:
    make_checkpoint(tmp_path, 9)
    whole = make_checkpoint(tmp_path, 10)
    make_checkpoint(tmp_path, 100, damaged=True)
    # A save that was killed is not even looked at.
    begin_checkpoint(tmp_path, step=200)
    found = find_resumption(str(tmp_path) if wanted == "RUN" else wanted, output_dir=tmp_path)
    assert found.checkpoint == whole
    (note,) = found.notes
    assert "checkpoint-100' is passed over: it is damaged: run.json is missing" in note


def test_of_several_runs_the_newest_with_a_checkpoint_is_meant(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "v2-20260101-000000", 50)
    wanted = make_checkpoint(tmp_path / "v10-20260101-000000", 3)
    (tmp_path / "v11-20260101-000000").mkdir()
    assert find_resumption("latest", output_dir=tmp_path).checkpoint == wanted


def test_a_checkpoint_that_is_named_is_taken_or_refused(tmp_path: Path) -> None:
    older, damaged = make_checkpoint(tmp_path, 9), make_checkpoint(tmp_path, 10, damaged=True)
    assert find_resumption(str(older), output_dir=tmp_path / "unused").checkpoint == older
    with pytest.raises(BrokenCheckpoint, match=r"checkpoint-10' is damaged: run.json is missing; complete ones in"):
        find_resumption(str(damaged), output_dir=tmp_path / "unused")


@pytest.mark.parametrize("wanted", [None, "false"])
def test_a_run_begins_anew_unless_it_is_to_go_on(tmp_path: Path, wanted: str | None) -> None:
    make_checkpoint(tmp_path, 9)
    assert find_resumption(wanted, output_dir=tmp_path).checkpoint is None


def test_latest_begins_anew_where_true_is_refused(tmp_path: Path) -> None:
    begin_checkpoint(tmp_path, step=2)
    found = find_resumption("latest", output_dir=tmp_path)
    assert found.checkpoint is None and "the run begins anew" in found.notes[0]
    with pytest.raises(BrokenCheckpoint, match=r"'true' and no run in .* has a checkpoint"):
        find_resumption("true", output_dir=tmp_path)
    with pytest.raises(BrokenCheckpoint, match="is not a folder"):
        find_resumption(str(tmp_path / "missing"), output_dir=tmp_path)


@pytest.mark.parametrize("wanted", ["latest", "true", "RUN"])
def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path: Path, wanted: str) -> None:
    make_checkpoint(tmp_path, 1, damaged=True)
    with pytest.raises(BrokenCheckpoint, match=r"no checkpoint of .* is whole"):
        find_resumption(str(tmp_path) if wanted == "RUN" else wanted, output_dir=tmp_path)


def test_a_checkpoint_of_this_run_is_accepted(tmp_path: Path) -> None:
    check_same_run(make_checkpoint(tmp_path, 1), RUN)


def test_each_fact_that_differs_is_named(tmp_path: Path) -> None:
    other = replace(RUN, base_model="qwen", global_batch=32, packing_length=512)
    with pytest.raises(ForeignCheckpoint) as caught:
        check_same_run(make_checkpoint(tmp_path, 1), other)
    for said in ("base_model is 'llama' there and 'qwen' here", "global_batch is 16 there and 32 here"):
        assert said in str(caught.value)
    assert "packing_length is None there and 512 here" in str(caught.value)
    assert "data_seed" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_checkpoint_that_does_not_say_its_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(BrokenCheckpoint, match=r"run\.json"):
        check_same_run(tmp_path, RUN)


def sample(*ids: int, weight: float = 1.0) -> Encoded:
    array = np.array(ids, dtype=np.int64)
    return Encoded(input_ids=array, labels=array, loss_scale=np.full(len(ids), weight, dtype=np.float32))


def test_samples_have_another_digest_if_one_is_changed_moved_or_weighed_otherwise() -> None:
    def digest(*samples: Encoded) -> str:
        return digest_samples(samples, np.array([len(each) for each in samples]))

    base = digest(sample(1, 2), sample(3))
    assert digest(sample(1, 2), sample(3)) == base
    others = [
        digest(sample(1, 2), sample(4)),
        digest(sample(3), sample(1, 2)),
        digest(sample(1, 2), sample(3, weight=0.5)),
        digest(sample(1), sample(2, 3)),
        digest(sample(1, 2)),
    ]
    assert len({base, *others}) == 6
