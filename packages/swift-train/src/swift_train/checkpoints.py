"""Checkpoints that are either whole or known not to be.

A checkpoint is written beside its place, as `.checkpoint-N.partial`. When every file of it is on the disk, it gets its
manifest, a list of these files with their sizes and SHA-256, and is renamed to `checkpoint-N`. So a folder of that name
was finished; whether it still is what was written, its manifest tells. Removing begins with renaming too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from .errors import BrokenCheckpoint

MANIFEST: Final = "manifest.json"
PREFIX: Final = "checkpoint-"
_NAME: Final = re.compile(f"{PREFIX}[0-9]+")
_ASIDE: Final = re.compile(rf"\.{PREFIX}[0-9]+\.(partial|removed)")


class FileFacts(NamedTuple):
    """What a manifest says of a file: its size in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


def begin_checkpoint(run: Path, *, step: int) -> Path:
    """Return an empty folder in which the checkpoint of a step is put together; what an earlier try left is gone."""
    partial = _partial_folder(run, step)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish_checkpoint(partial: Path) -> Path:
    """Bring a checkpoint to the disk, list its files, and put it in its place, where an older one of its step goes.

    Args:
        partial: as `begin_checkpoint` returned it, with all its files.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: the disk is full, or refuses for another reason; `partial` stays for `abandon_checkpoint`.
    """
    write_manifest(partial)
    folder = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
    replaced = _put_aside(folder) if folder.exists() else None
    partial.rename(folder)
    _sync_folder(folder.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)
    return folder


def abandon_checkpoint(run: Path, *, step: int) -> None:
    """Remove what there is of a step's checkpoint that cannot be finished."""
    shutil.rmtree(_partial_folder(run, step), ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """List the files of a checkpoint folder, after each of them is on the disk."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each.name != MANIFEST)
    facts = {file.relative_to(folder).as_posix(): _read_facts(file, sync=True)._asdict() for file in files}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": facts}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for each in (*(each for each in folder.rglob("*") if each.is_dir()), folder):
        _sync_folder(each)


def check_checkpoint(folder: Path, *, read_all: bool = True) -> None:
    """Make sure that a checkpoint is what was written.

    Args:
        folder: of the checkpoint.
        read_all: compare every file's SHA-256, which takes a second or two for each GiB; otherwise only its size.

    Raises:
        BrokenCheckpoint: the folder is missing, was not finished, or a file of it is lost or was changed since.
    """
    problem = find_damage(folder, read_all=read_all)
    if problem is not None:
        run = folder if list_folders(folder) else folder.parent
        raise BrokenCheckpoint(f"checkpoint {str(folder)!r} {problem}; {_offer(run)}")


def find_damage(folder: Path, *, read_all: bool = True) -> str | None:
    """Return what is wrong with a checkpoint, as words that follow its name; None if it is what was written."""
    if not folder.is_dir():
        return "is not a folder"
    try:
        facts = _read_manifest(folder)
    except FileNotFoundError:
        return f"has no {MANIFEST}: it was not finished, or is not a training checkpoint"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"has a {MANIFEST} that cannot be read ({error})"
    problem = _compare(folder, facts, read_all=read_all)
    return None if problem is None else f"is damaged: {problem}"


def find_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run that have all their files in full length, oldest first."""
    return [folder for folder in list_folders(run) if find_damage(folder, read_all=False) is None]


def list_folders(run: Path) -> list[Path]:
    """Return the folders of a run that are named as checkpoints, damaged ones too, in the order of their steps."""
    if not run.is_dir():
        return []
    return sorted((each for each in run.iterdir() if each.is_dir() and _NAME.fullmatch(each.name)), key=step_of)


def step_of(folder: Path) -> int:
    """Return after which step a checkpoint was saved, by its name."""
    return int(folder.name.removeprefix(PREFIX))


def remove_incomplete(run: Path) -> None:
    """Delete what interrupted saves and removals have left in a run's folder, in which nothing else writes now."""
    if run.is_dir():
        for each in run.iterdir():
            if each.is_dir() and _ASIDE.fullmatch(each.name):
                shutil.rmtree(each, ignore_errors=True)


def remove_old(run: Path, *, keep: int, spared: Collection[Path] = ()) -> None:
    """Delete the oldest checkpoints of a run until so many are left.

    Args:
        run: the run's folder.
        keep: how many stay.
        spared: those that stay in any case, and count: the one just written, which is not the one of the highest step
            where a run goes on from an earlier checkpoint than its last; and the best one.
    """
    whole = find_checkpoints(run)
    others = [each for each in whole if each not in spared]
    num_removed = min(len(others), max(0, len(whole) - keep))
    for folder in others[:num_removed]:
        shutil.rmtree(_put_aside(folder), ignore_errors=True)


def _partial_folder(run: Path, step: int) -> Path:
    return run / f".{PREFIX}{step}.partial"


def _put_aside(folder: Path) -> Path:
    """Take a checkpoint out of sight in one step, so that none is ever seen half removed."""
    aside = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def _read_manifest(folder: Path) -> dict[str, FileFacts]:
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    facts = {str(name): FileFacts(int(each["size"]), str(each["sha256"])) for name, each in listed.items()}
    outside = [name for name in facts if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise ValueError(f"it lists {outside[0]!r}, which is no file of this checkpoint")
    return facts


def _compare(folder: Path, facts: Mapping[str, FileFacts], *, read_all: bool) -> str | None:
    # Sizes first: they cost nothing.
    for name, expected in facts.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if (found := file.stat().st_size) != expected.size:
            return f"{name} has {found} bytes instead of {expected.size}"
    if not read_all:
        return None
    changed = [name for name, expected in facts.items() if _read_facts(folder / name).sha256 != expected.sha256]
    return f"{changed[0]} holds other bytes than were written (its SHA-256 differs)" if changed else None


def _read_facts(path: Path, *, sync: bool = False) -> FileFacts:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return FileFacts(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can: not on Windows."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _offer(run: Path) -> str:
    names = [folder.name for folder in list_folders(run) if (folder / MANIFEST).exists()]
    return (
        f"complete ones in {str(run)!r}: {', '.join(names)}"
        if names
        else f"there is no complete checkpoint in {str(run)!r}"
    )
