"""Checkpoints are whole or known not to be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from swift_train.args import TrainArgs
from swift_train.checkpoints import (
    abandon_checkpoint,
    begin_checkpoint,
    check_checkpoint,
    find_checkpoints,
    finish_checkpoint,
    remove_incomplete,
    remove_old,
)
from swift_train.errors import BrokenCheckpoint, OutputFolderTaken
from swift_train.output_folder import choose_folder

# Writes a checkpoint of many files over and over, and says so once it has begun.
WRITE_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
from swift_train.checkpoints import begin_checkpoint, finish_checkpoint
run = Path(sys.argv[1])
for step in range(1, 10**6):
    partial = begin_checkpoint(run, step=1 + step % 2)
    for number in range(20):
        (partial / f"{number}.bin").write_bytes(b"x" * 1000)
    finish_checkpoint(partial)
    print(step, flush=True)
"""


def make_checkpoint(run: Path, step: int, *, complete: bool = True) -> Path:
    partial = begin_checkpoint(run, step=step)
    (partial / "adapter_model.safetensors").write_bytes(b"x" * step)
    (partial / "deeper").mkdir()
    (partial / "deeper" / "optimizer.json").write_text("{}", encoding="utf-8")
    return finish_checkpoint(partial) if complete else partial


def test_complete_checkpoints_are_found_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 200, complete=False)
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]


def test_a_manifest_lists_sizes_and_sha256(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 3)
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    # printf 'xxx' | sha256sum; printf '{}' | sha256sum
    assert listed == {
        "adapter_model.safetensors": {
            "size": 3,
            "sha256": "cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860",
        },
        "deeper/optimizer.json": {
            "size": 2,
            "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        },
    }


def test_what_is_put_together_lies_beside_and_nothing_is_seen_of_it(tmp_path: Path) -> None:
    partial = make_checkpoint(tmp_path, 5, complete=False)
    assert partial == tmp_path / ".checkpoint-5.partial"
    assert find_checkpoints(tmp_path) == []
    assert finish_checkpoint(partial) == tmp_path / "checkpoint-5"
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    old = make_checkpoint(tmp_path, 5)
    (old / "adapter_model.safetensors").write_bytes(b"damaged")
    (old / "left.bin").write_bytes(b"over")
    assert make_checkpoint(tmp_path, 5) == old
    check_checkpoint(old)
    assert not (old / "left.bin").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint-5"]


def test_only_what_was_interrupted_is_removed(tmp_path: Path) -> None:
    whole, partial = make_checkpoint(tmp_path, 1), make_checkpoint(tmp_path, 2, complete=False)
    half_removed = tmp_path / ".checkpoint-7.removed"
    # Another tool's checkpoint, and folders whose names only look like one.
    others = [tmp_path / name for name in ("checkpoint-3", "2024", "checkpoint-²", ".checkpoint-x.partial")]
    for folder in (half_removed, *others):
        folder.mkdir()
    remove_incomplete(tmp_path)
    assert not partial.exists() and not half_removed.exists()
    assert whole.exists() and all(folder.exists() for folder in others)
    assert find_checkpoints(tmp_path) == [whole]


def test_an_abandoned_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path, 2)
    make_checkpoint(tmp_path, 2, complete=False)
    abandon_checkpoint(tmp_path, step=2)
    abandon_checkpoint(tmp_path, step=3)
    assert list(tmp_path.iterdir()) == [whole]
    check_checkpoint(whole)


@pytest.mark.parametrize(
    ("keep", "spared", "left"),
    [
        pytest.param(2, [], [10, 100], id="the newest stay"),
        pytest.param(1, [9], [9], id="the one just written stays, of an earlier step"),
        pytest.param(2, [9], [9, 100], id="beside the newest"),
        pytest.param(1, [9, 10], [9, 10], id="the best one too"),
        pytest.param(5, [], [9, 10, 100], id="fewer than may stay"),
    ],
)
def test_the_newest_complete_checkpoints_are_kept(
    tmp_path: Path, keep: int, spared: list[int], left: list[int]
) -> None:
    for step in (9, 10, 100):
        make_checkpoint(tmp_path, step)
    unfinished = make_checkpoint(tmp_path, 50, complete=False)
    remove_old(tmp_path, keep=keep, spared=[tmp_path / f"checkpoint-{step}" for step in spared])
    assert [folder.name for folder in find_checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in left]
    assert unfinished.exists()


def test_a_shortened_file_is_noticed_and_whole_checkpoints_are_offered(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, 5)
    damaged = make_checkpoint(tmp_path, 10)
    (damaged / "adapter_model.safetensors").write_bytes(b"x" * 9)
    with pytest.raises(BrokenCheckpoint, match=r"has 9 bytes instead of 10.*checkpoint-5"):
        check_checkpoint(damaged)
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["checkpoint-5"]


def test_a_changed_byte_is_noticed_where_the_size_is_right(tmp_path: Path) -> None:
    damaged = make_checkpoint(tmp_path, 10)
    (damaged / "adapter_model.safetensors").write_bytes(b"x" * 9 + b"y")
    check_checkpoint(damaged, read_all=False)
    with pytest.raises(BrokenCheckpoint, match=r"adapter_model.safetensors holds other bytes .* SHA-256"):
        check_checkpoint(damaged)


def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 1)
    listed = {"files": {"../other": {"size": 0, "sha256": ""}}}
    (folder / "manifest.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(BrokenCheckpoint, match=r"'../other', which is no file of this checkpoint"):
        check_checkpoint(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(None, "is not a folder", id="missing"),
        pytest.param({}, "was not finished", id="unfinished"),
        pytest.param({"manifest.json": "{"}, "cannot be read", id="no JSON"),
        pytest.param({"manifest.json": '{"files": {"a": 3}}'}, "cannot be read", id="foreign manifest"),
        pytest.param({"manifest.json": "[]"}, "cannot be read", id="no object"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, files: dict[str, str] | None, message: str) -> None:
    folder = tmp_path / "checkpoint-7"
    for name, content in ({} if files is None else files).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    if files == {}:
        folder.mkdir()
    with pytest.raises(BrokenCheckpoint, match=message):
        check_checkpoint(folder)


def test_a_writer_that_is_killed_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_AGAIN_AND_AGAIN, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # The first rounds are past, and some later one is under way.
        for _ in range(40):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    assert find_checkpoints(tmp_path)
    for folder in tmp_path.glob("checkpoint-*"):
        check_checkpoint(folder)
    remove_incomplete(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} <= {"checkpoint-1", "checkpoint-2"}


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
