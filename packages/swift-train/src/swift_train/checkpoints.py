"""Checkpoints that are either whole or known not to be.

A checkpoint folder gets its manifest, a list of its files and their sizes, after everything else in it is written. A
folder without one, or whose files don't match it, was interrupted and is never resumed from.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from .errors import BrokenCheckpoint

MANIFEST = "manifest.json"
PREFIX = "checkpoint-"
_NAME = re.compile(f"{PREFIX}[0-9]+")


def write_manifest(folder: Path) -> None:
    """Mark a checkpoint folder as complete."""
    sizes = {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    temporary = folder / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps({"files": sizes}, indent=1), encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


def check_checkpoint(folder: Path) -> None:
    """Make sure that a checkpoint can be resumed from.

    Raises:
        BrokenCheckpoint: the folder is missing, was not finished, or lost a file since.
    """
    if not folder.is_dir():
        raise BrokenCheckpoint(f"checkpoint {str(folder)!r} is not a folder; {_offer(folder.parent)}")
    try:
        sizes: dict[str, int] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        raise BrokenCheckpoint(
            f"checkpoint {str(folder)!r} has no {MANIFEST}: it was not finished, or is not a training checkpoint; "
            f"{_offer(folder if _folders(folder) else folder.parent)}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenCheckpoint(
            f"{str(folder / MANIFEST)!r} cannot be read ({error}); {_offer(folder.parent)}"
        ) from error
    for name, size in sizes.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise BrokenCheckpoint(f"checkpoint {str(folder)!r} is damaged: {name} {what}; {_offer(folder.parent)}")


def find_checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    whole = [folder for folder in _folders(run) if _is_whole(folder)]
    return sorted(whole, key=_step)


def remove_incomplete(run: Path, *, step: int) -> None:
    """Delete what the interrupted save of a step left; a complete checkpoint, or one of another step, stays."""
    folder = run / f"{PREFIX}{step}"
    if folder.is_dir() and not (folder / MANIFEST).exists():
        shutil.rmtree(folder, ignore_errors=True)


def remove_old(run: Path, *, keep: int) -> None:
    """Delete all but the newest complete checkpoints of a run."""
    for folder in find_checkpoints(run)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def _folders(run: Path) -> list[Path]:
    if not run.is_dir():
        return []
    return [each for each in run.iterdir() if each.is_dir() and _NAME.fullmatch(each.name)]


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))


def _is_whole(folder: Path) -> bool:
    try:
        check_checkpoint(folder)
    except BrokenCheckpoint:
        return False
    return True


def _offer(run: Path) -> str:
    names = [folder.name for folder in _folders(run) if (folder / MANIFEST).exists()]
    names.sort(key=lambda name: int(name.removeprefix(PREFIX)))
    return (
        f"complete ones in {str(run)!r}: {', '.join(names)}"
        if names
        else f"there is no complete checkpoint in {str(run)!r}"
    )
