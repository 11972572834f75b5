"""The errors of swift_train; each is also a standard error.

A message says what was given, what was expected, and what to do.
"""

from __future__ import annotations


class SwiftTrainError(Exception):
    """Root of all errors that swift_train raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return Exception.__str__(self)


class InvalidTrainArgs(SwiftTrainError, ValueError):
    """Options that contradict each other or this machine."""


class NothingToTrain(SwiftTrainError, ValueError):
    """No sample is left to train on."""


class RefusedRow(SwiftTrainError, ValueError):
    """The template cannot say a row as the model was made to read it."""


class OutputFolderTaken(SwiftTrainError, FileExistsError):
    """The output folder holds another run."""


class OutputNotWritable(SwiftTrainError, OSError):
    """The output folder cannot be made or written."""


class BrokenCheckpoint(SwiftTrainError, ValueError):
    """A checkpoint folder is incomplete or not a checkpoint."""


class CheckpointNotWritten(SwiftTrainError, OSError):
    """Writing a checkpoint failed, such as on a full disk; earlier checkpoints are whole."""


class TrainingDiverged(SwiftTrainError, ArithmeticError):
    """The loss is no longer a finite number."""
