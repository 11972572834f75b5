"""From what a user says to go on from to a checkpoint that is whole and belongs to this run.

A run is told from others by what decides which samples make which optimizer step: see `RunFingerprint`. What does not,
such as the number of processes or of epochs, may change between a run's parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from swift_templates.encoded import Encoded
from swift_tuners.tuner import JSON

from .checkpoints import MANIFEST, check_checkpoint, find_damage, list_folders
from .errors import BrokenCheckpoint, SwiftTrainError

FINGERPRINT_FILE: Final = "run.json"
LATEST: Final = "latest"
_NEWEST: Final = frozenset({"true", LATEST})
_VERSION: Final = re.compile(r"v([0-9]+)-.*")
_LOOKED_AT: Final = 256


class ForeignCheckpoint(SwiftTrainError, ValueError):
    """A checkpoint is whole, and of another run."""


@dataclass(frozen=True, kw_only=True)
class RunFingerprint:
    """What decides which samples make which optimizer step of which model.

    Attributes:
        base_model: name of the model under the tuners.
        base_revision: its revision, if it has one.
        algorithm: registered name.
        dataset: `digest_samples` of the training samples, in their order.
        num_samples: how many there are.
        packing_length: tokens of a batch row; None where each sample is its own.
        global_batch: batch rows in one optimizer step, of all processes together.
        data_seed: of the order of each epoch; None keeps the given order.
    """

    base_model: str | None
    base_revision: str | None
    algorithm: str
    dataset: str
    num_samples: int
    packing_length: int | None
    global_batch: int
    data_seed: int | None


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Where a run goes on.

    Attributes:
        checkpoint: to go on from; None begins anew.
        notes: sentences for the user, on what was passed over and why.
    """

    checkpoint: Path | None
    notes: tuple[str, ...] = ()


def find_resumption(wanted: str | None, *, output_dir: Path) -> Resumption:
    """Find the checkpoint that a user means, and read all of it.

    Args:
        wanted: None or 'false' begins anew; 'true' is the newest whole checkpoint of the newest run in `output_dir`;
            'latest' is the same, or begins anew where there is none yet; otherwise a run's folder, of which the newest
            whole checkpoint is taken, or a checkpoint.
        output_dir: of this run: a run's folder, or a folder of runs.

    Raises:
        BrokenCheckpoint: there is none, or none is whole, or the one that is named is not.
    """
    if wanted is None or wanted.lower() == "false":
        return Resumption(checkpoint=None)
    if wanted.lower() in _NEWEST:
        run = _newest_run(output_dir)
        if run is not None:
            return _newest_whole(run)
        if wanted.lower() == LATEST:
            return Resumption(
                checkpoint=None, notes=(f"No checkpoint is in {str(output_dir)!r}: the run begins anew.",)
            )
        raise BrokenCheckpoint(
            f"resume_from_checkpoint is {wanted!r} and no run in {str(output_dir)!r} has a checkpoint; expected one in "
            f"--output_dir; name a run's folder, or say {LATEST!r}, which begins anew where there is none"
        )
    folder = Path(wanted)
    if not (folder / MANIFEST).exists() and list_folders(folder):
        return _newest_whole(folder)
    check_checkpoint(folder)
    return Resumption(checkpoint=folder)


def check_same_run(checkpoint: Path, own: RunFingerprint) -> None:
    """Make sure that a checkpoint is of this run.

    Raises:
        ForeignCheckpoint: it is not; the message names each fact that differs.
        BrokenCheckpoint: it does not say which run it is of.
    """
    saved = _read_fingerprint(checkpoint)
    differing = [
        f"{name} is {saved.get(name)!r} there and {value!r} here"
        for name, value in asdict(own).items()
        if saved.get(name) != value
    ]
    if differing:
        raise ForeignCheckpoint(
            f"checkpoint {str(checkpoint)!r} is of another run: {'; '.join(differing)}; go on with the model, data and "
            "options that it began with, or leave --resume_from_checkpoint out"
        )


def write_fingerprint(fingerprint: RunFingerprint, folder: Path) -> None:
    """Write which run a checkpoint is of."""
    (folder / FINGERPRINT_FILE).write_text(json.dumps(asdict(fingerprint), indent=1) + "\n", encoding="utf-8")


def digest_samples(samples: Sequence[Encoded], lengths: npt.NDArray[np.integer]) -> str:
    """Return a digest of training samples: the lengths of all, and all numbers of some that are spread over the set.

    Args:
        samples: in their order.
        lengths: (S,) tokens of each.
    """
    digest = hashlib.sha256(np.ascontiguousarray(lengths, dtype=np.int64).tobytes())
    for index in np.unique(np.linspace(0, len(samples) - 1, num=min(_LOOKED_AT, len(samples)), dtype=np.int64)):
        sample = samples[int(index)]
        for array in (sample.input_ids, sample.labels, sample.loss_scale):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _newest_run(output_dir: Path) -> Path | None:
    if list_folders(output_dir):
        return output_dir
    if not output_dir.is_dir():
        return None
    versions = [(int(match[1]), each) for each in output_dir.iterdir() if (match := _VERSION.fullmatch(each.name))]
    return next((run for _, run in sorted(versions, reverse=True) if list_folders(run)), None)


def _newest_whole(run: Path) -> Resumption:
    notes: list[str] = []
    for folder in reversed(list_folders(run)):
        problem = find_damage(folder)
        if problem is None:
            return Resumption(checkpoint=folder, notes=tuple(notes))
        notes.append(f"Checkpoint {str(folder)!r} is passed over: it {problem}.")
    raise BrokenCheckpoint(f"no checkpoint of {str(run)!r} is whole; expected one to go on from: {' '.join(notes)}")


def _read_fingerprint(checkpoint: Path) -> dict[str, JSON]:
    path = checkpoint / FINGERPRINT_FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenCheckpoint(
            f"{str(path)!r} does not say which run the checkpoint is of ({error}); expected a checkpoint that training "
            "wrote; take another one"
        ) from error
    if not isinstance(saved, dict) or not {each.name for each in fields(RunFingerprint)} & set(saved):
        raise BrokenCheckpoint(
            f"{str(path)!r} holds {saved!r:.80}; expected the facts of a run; take another checkpoint"
        )
    return saved
