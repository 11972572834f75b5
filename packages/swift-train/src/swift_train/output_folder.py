"""Where a run writes: a new sub-folder each time, or one folder that no other run has used."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .args import TrainArgs
from .errors import OutputFolderTaken, OutputNotWritable


def choose_folder(args: TrainArgs, *, goes_on: bool = False) -> Path:
    """Return the run's folder, without making it.

    A resumed run goes on in the folder of its checkpoint. Otherwise it is `output_dir/vN-DATE`, or `output_dir` itself
    with `add_version=False`.

    Args:
        args: what the user said, with the checkpoint that is meant.
        goes_on: `output_dir` itself may hold what a run left that was killed before its first checkpoint.

    Raises:
        OutputFolderTaken: `output_dir` itself is to be used and is not empty.
    """
    if args.resume_from_checkpoint:
        return Path(args.resume_from_checkpoint).resolve().parent
    base = Path(args.output_dir)
    if base.exists() and not base.is_dir():
        raise OutputFolderTaken(f"output_dir {str(base)!r} is a file; expected a folder or a new name")
    if args.add_version:
        return base / f"v{_next_version(base)}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not goes_on and base.exists() and any(base.iterdir()):
        raise OutputFolderTaken(
            f"output_dir {str(base)!r} holds another run or other files; expected an empty or a new folder; "
            "name another, resume with --resume_from_checkpoint, or leave out --add_version false"
        )
    return base


def make_folder(folder: Path, on_output_dir: Callable[[Path], None] | None, *, resumed_at: str | None = None) -> None:
    """Make the run's folder and let the caller put its record there.

    Args:
        folder: of the run.
        on_output_dir: writes the record into the folder that it is given.
        resumed_at: the checkpoint that a resumed run goes on from; its record gets a sub-folder, so that the run's
        first one stays.
    """
    if resumed_at is not None:
        folder = folder / f"resumed-at-{Path(resumed_at).name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if on_output_dir is not None:
            on_output_dir(folder)
    except OSError as error:
        raise OutputNotWritable(
            f"output folder {str(folder)!r} cannot be written: {error.strerror or error}; name another --output_dir"
        ) from error


def _next_version(base: Path) -> int:
    if not base.is_dir():
        return 0
    numbers = [each.name[1:].partition("-")[0] for each in base.iterdir() if each.name.startswith("v")]
    return 1 + max((int(each) for each in numbers if each.isdigit()), default=-1)
