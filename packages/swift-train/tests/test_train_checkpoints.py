"""Checkpoints are whole or known not to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from swift_train.args import TrainArgs
from swift_train.checkpoints import check_checkpoint, find_checkpoints, remove_incomplete, remove_old, write_manifest
from swift_train.errors import BrokenCheckpoint, OutputFolderTaken
from swift_train.output_folder import choose_folder


def make_checkpoint(run: Path, step: int, *, complete: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"x" * step)
    if complete:
        write_manifest(folder)
    return folder


def test_complete_checkpoints_are_found_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 200, complete=False)
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]


def test_only_the_interrupted_checkpoint_is_removed(tmp_path: Path) -> None:
    whole, broken = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2, complete=False)
    # Another tool's checkpoint, and folders whose names only look like one.
    others = [make_checkpoint(tmp_path, 3, complete=False), tmp_path / "2024", tmp_path / "checkpoint-²"]
    for folder in others[1:]:
        folder.mkdir()
    for step in (1, 2):
        remove_incomplete(tmp_path, step=step)
    assert whole.exists() and not broken.exists() and all(folder.exists() for folder in others)
    assert find_checkpoints(tmp_path) == [whole]


def test_the_newest_complete_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        make_checkpoint(tmp_path, step)
    unfinished = make_checkpoint(tmp_path, 50, complete=False)
    remove_old(tmp_path, keep=2)
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-100"]
    assert unfinished.exists()


def test_a_shortened_file_is_noticed_and_whole_checkpoints_are_offered(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 5)
    damaged = make_checkpoint(tmp_path, 10)
    (damaged / "adapter_model.safetensors").write_bytes(b"x" * 9)
    with pytest.raises(BrokenCheckpoint, match=r"has 9 bytes instead of 10.*checkpoint-5"):
        check_checkpoint(damaged)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda run: None, "is not a folder"),
        (lambda run: (run / "checkpoint-7").mkdir(), "was not finished"),
        (
            lambda run: [(run / "checkpoint-7").mkdir(), (run / "checkpoint-7/manifest.json").write_text("{")],
            "cannot be read",
        ),
    ],
    ids=["missing", "unfinished", "foreign manifest"],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, prepare: object, message: str) -> None:
    assert callable(prepare)
    prepare(tmp_path)
    with pytest.raises(BrokenCheckpoint, match=message):
        check_checkpoint(tmp_path / "checkpoint-7")


def test_each_run_gets_the_next_version(tmp_path: Path) -> None:
    (tmp_path / "v0-20260101-000000").mkdir()
    (tmp_path / "v10-20260101-000000").mkdir()
    assert choose_folder(TrainArgs(output_dir=str(tmp_path))).name.startswith("v11-")


def test_a_folder_that_holds_another_run_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 1)
    with pytest.raises(OutputFolderTaken, match="holds another run"):
        choose_folder(TrainArgs(output_dir=str(tmp_path), add_version=False))


def test_an_empty_folder_is_used_as_it_is(tmp_path: Path) -> None:
    assert choose_folder(TrainArgs(output_dir=str(tmp_path), add_version=False)) == tmp_path


def test_a_resumed_run_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 3)
    assert choose_folder(TrainArgs(resume_from_checkpoint=str(checkpoint))) == tmp_path.resolve()
